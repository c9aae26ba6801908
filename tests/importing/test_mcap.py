"""ROS 2 bags as recordings: each topic with its own clock, joints by name, silences by span."""

import numpy as np
import pytest

from positronic.errors import PositronicError
from positronic.importing.mcap import McapSource
from positronic.importing.source import IMAGE, TEXT, VECTOR, How

MS = 10**6
START = 1_700_000_000 * 10**9
RED = np.full((32, 48, 3), (200, 0, 0), np.uint8)


@pytest.fixture
def recorded(bag):
    """Two seconds: joints at 100 Hz whose order changes, a camera at 15 Hz, poses at 50 Hz."""
    for at in range(200):
        values = {"waist": at / 100, "elbow": 1 + at / 100}
        bag.joints(10 * MS * at + MS, values if at % 2 else dict(reversed(values.items())))
    for at in range(30):
        bag.frame("/wrist/compressed", at * 66_666_666 + 2 * MS, RED + np.array([0, 0, at], np.uint8))
    for at in range(100):
        bag.pose("/tool", 20 * MS * at + MS, (at / 100, 0.0, 0.5), (0.0, 0.0, 0.6, 0.8))
    return bag


def read(path, field, clock=""):
    """The field of the only bag."""
    (episode,) = McapSource(path).episodes()
    with episode.open({field: How(clock=clock)}) as reading:
        return reading.read(field)


def frames(path, field, **how):
    (episode,) = McapSource(path).episodes()
    with episode.open({field: How(**how)}) as reading:
        return list(reading.frames(field))


def test_topics_are_fields_with_rates_names_and_clocks(recorded):
    fields = McapSource(recorded.write()).fields()
    assert {name: field.kind for name, field in fields.items()} == {
        "/joint_states.position": VECTOR,
        "/tool": VECTOR,
        "/wrist/compressed": IMAGE,
    }
    assert fields["/joint_states.position"].names == ("elbow", "waist")
    assert [round(fields[name].rate_hz) for name in sorted(fields)] == [100, 50, 15]
    assert all(field.believed["clock"][::2] == ("header", True) for field in fields.values())
    assert fields["/tool"].believed["rotation"][::2] == ("quat_wxyz", True)
    assert fields["/joint_states.position"].believed["unit"][::2] == ("rad", True)


def test_numbers_are_what_was_written_at_the_time_of_measuring(recorded):
    """The headers are a millisecond before the log."""
    times, values = read(recorded.write(), "/joint_states.position")
    assert (times - START).tolist() == [10 * MS * at for at in range(200)]
    assert np.allclose(values, np.stack([1 + np.arange(200) / 100, np.arange(200) / 100], axis=1))


def test_the_log_counts_where_the_mapping_says_so(recorded):
    times, _ = read(recorded.write(), "/tool", clock="log")
    assert times[0] - START == MS


def test_frames_come_with_the_time_of_their_exposure(recorded):
    found = frames(recorded.write(), "/wrist/compressed")
    assert [time_ns - START for time_ns, _ in found[:3]] == [66_666_666 * at for at in range(3)]
    assert np.abs(found[29][1].astype(int) - (200, 0, 29)).max() <= 4


def test_a_camera_whose_driver_swapped_the_colours_is_put_right(recorded):
    """Where the message says other than what is in it, a person can say so."""
    found = frames(recorded.write(), "/wrist/compressed", channels="bgr")
    assert np.abs(found[0][1].astype(int) - (0, 0, 200)).max() <= 4


def test_a_raw_image_that_is_depth_is_listed_with_the_reason(bag):
    depth = np.zeros(32 * 48 * 2, np.uint8)
    pixels = {"height": 32, "width": 48, "step": 96, "is_bigendian": 0, "data": depth, "encoding": "16UC1"}
    bag.add("/depth", "Image", MS, MS, **pixels)
    source = McapSource(bag.write())
    assert source.fields() == {}
    assert "'16UC1'; known are rgb8" in source.unsupported["/depth"]
    (episode,) = source.episodes()
    with pytest.raises(PositronicError, match="'/depth'"), episode.open({"/depth": How()}):
        pass


def test_other_types_and_empty_topics_are_listed(bag):
    vector = {axis: bag.message("Vector3", x=0.0, y=0.0, z=0.0) for axis in ("linear", "angular")}
    bag.add("/cmd_vel", "Twist", MS, **vector)
    source = McapSource(bag.write())
    assert source.unsupported == {"/cmd_vel": "messages of geometry_msgs/msg/Twist are not imported"}
    (episode,) = source.episodes()
    with pytest.raises(PositronicError, match="one of geometry_msgs/msg/Twist"), episode.open({"/cmd_vel": How()}):
        pass


def test_texts_are_a_field(bag):
    bag.add("/task", "String", MS, data="Stack the cups.")
    path = bag.write()
    assert McapSource(path).fields()["/task"].kind == TEXT
    assert read(path, "/task").values == ["Stack the cups."]


def test_a_folder_of_bags_is_a_dataset_in_the_first_ones_order(recorded, tmp_path):
    """Joints go by name across bags too."""
    recorded.path = tmp_path / "bags" / "a"
    recorded.write()
    other = type(recorded)(tmp_path / "bags" / "b")
    other.joints(MS, {"waist": 1.0, "elbow": 2.0})
    other.write()
    first, second = McapSource(tmp_path / "bags").episodes()
    assert (first.name, second.name) == ("a", "b")
    for episode, expected in ((first, [1, 0]), (second, [2, 1])):
        with episode.open({"/joint_states.position": How()}) as reading:
            assert reading.read("/joint_states.position").values[0].tolist() == expected


def test_bags_come_in_the_order_of_their_numbers(bag, tmp_path):
    """rosbag_2 before rosbag_10."""
    for number in (10, 2, 1):
        one = type(bag)(tmp_path / "bags" / f"rosbag_{number}")
        one.joints(MS, {"a": 0.0})
        one.write()
    names = [episode.name for episode in McapSource(tmp_path / "bags").episodes()]
    assert names == ["rosbag_1", "rosbag_2", "rosbag_10"]


def test_a_bag_that_lacks_a_topic_is_refused_by_name(recorded, tmp_path):
    recorded.path = tmp_path / "bags" / "a"
    recorded.write()
    other = type(recorded)(tmp_path / "bags" / "b")
    other.joints(MS, {"waist": 1.0, "elbow": 2.0}, topic="/joint_state")
    other.write()
    episode = McapSource(tmp_path / "bags").episodes()[1]
    with (
        pytest.raises(PositronicError, match="no topic '/joint_states'. Did you mean '/joint_state'"),
        episode.open({"/joint_states.position": How()}),
    ):
        pass


def test_one_of_two_publishers_on_a_topic_is_read_alone(bag):
    """The other's messages are not the field's."""
    for at in range(1, 4):
        bag.joints(10 * MS * at, {"a": float(at), "b": 0.0})
        bag.joints(10 * MS * at + MS, {"finger": 0.01 * at})
    assert read(bag.write(), "/joint_states.position@finger").values.tolist() == [[0.01], [0.02], [0.03]]


def test_a_sample_that_was_recorded_twice_counts_once(bag):
    for log_ns, header_ns, value in ((2, 1, 0.0), (3, 1, 0.0), (12, 11, 1.0)):
        bag.joints(log_ns * MS, {"a": value}, header_ns=header_ns * MS)
    times, values = read(bag.write(), "/joint_states.position", clock="header")
    assert ((times - START) / MS).tolist() == [1, 11]
    assert values.tolist() == [[0], [1]]


@pytest.mark.parametrize("header_ns", [5 * MS, 11 * MS])
def test_stamps_that_go_back_or_stand_still_are_refused(bag, header_ns):
    bag.joints(12 * MS, {"a": 0.0}, header_ns=11 * MS)
    bag.joints(22 * MS, {"a": 1.0}, header_ns=header_ns)
    with pytest.raises(PositronicError, match="'/joint_states.position': the header stamp of message 1"):
        read(bag.write(), "/joint_states.position", clock="header")


def test_frames_whose_stamps_go_back_are_refused(bag):
    bag.frame("/wrist", 12 * MS, RED)
    bag.frame("/wrist", 14 * MS, RED // 2)
    bag.add("/wrist", "CompressedImage", 20 * MS, 5 * MS, format="jpeg", data=np.zeros(4, np.uint8))
    with pytest.raises(PositronicError, match="'/wrist': the header stamp of message 2 goes back by 0.007"):
        frames(bag.write(), "/wrist", clock="header")


def test_a_header_that_is_missing_is_refused_unless_the_log_counts(bag):
    bag.joints(12 * MS, {"a": 0.0}, header_ns=-1)
    path = bag.write()
    belief = McapSource(path).fields()["/joint_states.position"].believed["clock"]
    assert belief == ("log", "its messages carry no stamp", True)
    assert read(path, "/joint_states.position").times_ns - START == 12 * MS
    with pytest.raises(PositronicError, match="message 0 has no stamp in its header. Say 'clock: log'"):
        read(path, "/joint_states.position", clock="header")


def test_a_field_that_is_not_there_is_named_with_the_nearest(recorded):
    with pytest.raises(PositronicError, match="'/joint_states': no such field. Fields: /joint_states.position, /tool"):
        read(recorded.write(), "/joint_states")


def test_a_folder_without_bags_is_refused(tmp_path):
    with pytest.raises(PositronicError, match="no ROS 2 bag"):
        McapSource(tmp_path)
