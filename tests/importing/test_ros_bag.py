"""Bags of ROS 2: what their messages hold, by name, and bags that cannot be read."""

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin

from positronic.errors import PositronicError
from positronic.importing.pictures import BGR, RGB
from positronic.importing.ros_bag import is_bag, open_bag
from positronic.importing.ros_messages import channel_order
from positronic.importing.ros_tracks import Shape, Tracks

MS = 10**6


def tracks_of(path, known=None):
    with open_bag(path) as bag:
        tracks = Tracks("bag", known)
        return tracks.read(bag), tracks.faults


@pytest.mark.parametrize("storage", list(StoragePlugin))
def test_joints_are_put_into_the_first_messages_order_by_name(bag, storage):
    """In both of ROS 2's storages."""
    bag.joints(10 * MS, {"b": 1.0, "a": 2.0})
    bag.joints(20 * MS, {"a": 3.0, "b": 4.0})
    found, _ = tracks_of(bag.write(storage))
    track = found["/joint_states.position"]
    assert track.shape.names == ("b", "a")
    assert np.stack(track.rows).tolist() == [[1, 2], [4, 3]]


def test_the_order_of_a_first_bag_counts_for_the_others(bag):
    bag.joints(10 * MS, {"b": 1.0, "a": 2.0})
    found, _ = tracks_of(bag.write(), {"/joint_states.position": Shape(("a", "b"), 2)})
    assert found["/joint_states.position"].rows[0].tolist() == [2, 1]


def test_other_joints_than_in_the_first_bag_are_refused_by_name(bag):
    bag.joints(10 * MS, {"a": 1.0, "c": 2.0})
    with pytest.raises(
        PositronicError, match="topic '/joint_states': joints a, c; expected, as in the first bag, a, b"
    ):
        tracks_of(bag.write(), {"/joint_states.position": Shape(("a", "b"), 2)})


def test_two_publishers_of_other_joints_on_one_topic_are_two_fields(bag):
    """An arm and its gripper, as is usual for /joint_states."""
    bag.joints(10 * MS, {"a": 1.0, "b": 2.0})
    bag.joints(11 * MS, {"finger": 0.04})
    found, _ = tracks_of(bag.write())
    assert {name: track.rows[0].tolist() for name, track in found.items()} == {
        "/joint_states.position@a": [1, 2],
        "/joint_states.position@finger": [0.04],
    }


def test_two_publishers_of_one_joint_are_a_fault(bag):
    bag.joints(10 * MS, {"a": 1.0, "b": 2.0})
    bag.joints(11 * MS, {"a": 1.0})
    found, faults = tracks_of(bag.write())
    assert found == {}
    assert "two publishers of one joint, a" in faults["/joint_states"]


@pytest.mark.parametrize(
    ("names", "position", "why"),
    [(["a", "a"], [1, 2], "two joints of one name: a, a"), (["a", "b"], [1], "1 numbers in 'position' for 2 names")],
)
def test_a_joint_state_that_contradicts_itself_is_a_fault(bag, names, position, why):
    empty = np.zeros(0)
    bag.add("/arm", "JointState", MS, MS, name=names, position=np.array(position, float), velocity=empty, effort=empty)
    assert why in tracks_of(bag.write())[1]["/arm"]


def test_a_pose_comes_scalar_first(bag):
    """The message's type says x, y, z, w; nothing is guessed."""
    bag.pose("/tool", 10 * MS, (1.0, 2.0, 3.0), (0.1, 0.2, 0.3, 0.9))
    found, _ = tracks_of(bag.write())
    assert found["/tool"].shape.names == ("x", "y", "z", "qw", "qx", "qy", "qz")
    assert found["/tool"].rows[0].tolist() == [1, 2, 3, 0.9, 0.1, 0.2, 0.3]


def test_numbers_without_names_come_as_they_are(bag):
    layout = bag.message("MultiArrayLayout", dim=[], data_offset=0)
    bag.add("/grip", "Float32", 10 * MS, data=0.5)
    bag.add("/command", "Float64MultiArray", 10 * MS, layout=layout, data=np.array([1.0, 2.0]))
    found, _ = tracks_of(bag.write())
    assert found["/grip"].shape == Shape(None, None)
    assert found["/command"].shape == Shape(None, 2)
    assert found["/command"].rows[0].tolist() == [1, 2]


def trajectory(bag, log_ns, *points):
    zero, none = bag.message("Duration", sec=0, nanosec=0), np.zeros(0)
    rest = {"velocities": none, "accelerations": none, "effort": none, "time_from_start": zero}
    points = [bag.message("JointTrajectoryPoint", positions=np.array(point), **rest) for point in points]
    bag.add("/plan", "JointTrajectory", log_ns, -1, joint_names=["a", "b"], points=points)


def test_a_trajectory_of_one_point_is_a_command(bag):
    trajectory(bag, MS, [1.0, 2.0])
    found, _ = tracks_of(bag.write())
    assert found["/plan.positions"].shape.names == ("a", "b")
    assert found["/plan.positions"].rows[0].tolist() == [1, 2]


def test_a_trajectory_of_several_points_is_no_command(bag):
    trajectory(bag, MS, [1.0, 2.0], [3.0, 4.0])
    assert "a trajectory of 2 points" in tracks_of(bag.write())[1]["/plan"]


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("jpeg", RGB),
        ("png", RGB),
        ("rgb8; jpeg compressed bgr8", RGB),
        ("bgr8; png compressed bgr8", RGB),
        ("bgr8; jpeg compressed rgb8", BGR),
        ("mono8; jpeg compressed ", RGB),
    ],
)
def test_the_format_of_a_compressed_image_says_the_order_of_colours(text, order):
    """OpenCV takes what it encodes for BGR."""
    assert channel_order(text, "frame") == order


@pytest.mark.parametrize("text", ["16UC1; compressedDepth png", "rgb8; jpeg compressed", "h264", ""])
def test_another_format_is_refused_by_name(text):
    with pytest.raises(PositronicError, match=f"frame: format '{text}'; known are jpeg, png"):
        channel_order(text, "frame")


def test_a_topic_that_is_not_there_is_named_with_the_nearest(bag):
    bag.joints(10 * MS, {"a": 1.0})
    with open_bag(bag.write()) as opened, pytest.raises(PositronicError, match="Did you mean '/joint_states'"):
        list(opened.messages(["/joint_state"]))


def test_a_bag_that_is_cut_off_is_refused(bag):
    """As one is whose recorder still runs, or was ended."""
    bag.joints(10 * MS, {"a": 1.0})
    (file,) = bag.write().glob("*.mcap")
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(PositronicError, match="still recorded, or whose recorder was ended") as refused, open_bag(file):
        pass
    assert "mcap recover" in str(refused.value)


@pytest.mark.parametrize("storage", list(StoragePlugin))
def test_a_bag_with_a_damaged_middle_is_refused_when_it_is_read(bag, storage):
    for at in range(2000):
        bag.joints(at * MS, {"a": float(at)})
    folder = bag.write(storage)
    (file,) = (path for path in folder.iterdir() if path.suffix in (".mcap", ".db3"))
    data = bytearray(file.read_bytes())
    data[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
    file.write_bytes(data)
    with pytest.raises(PositronicError, match=str(folder)):
        tracks_of(folder)


def test_a_folder_without_its_metadata_is_read_if_it_has_one_file(bag):
    """The recorder writes metadata.yaml last."""
    bag.joints(10 * MS, {"a": 1.0})
    folder = bag.write()
    (folder / "metadata.yaml").unlink()
    assert is_bag(folder)
    assert list(tracks_of(folder)[0]) == ["/joint_states.position"]
    (file,) = folder.glob("*.mcap")
    (folder / "second.mcap").write_bytes(file.read_bytes())
    with pytest.raises(PositronicError, match="2 files of a bag and no metadata.yaml"):
        tracks_of(folder)


def test_a_type_of_another_definition_is_refused(bag):
    """Read by name, its numbers would be others."""
    from rosbags.rosbag2 import Writer

    with Writer(bag.path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        digest = "RIHS01_" + "0" * 64
        where = writer.add_connection("/grip", "std_msgs/msg/Float32", msgdef="float64 data", rihs01=digest)
        writer.write(where, 1, b"\x00\x01\x00\x00" + bytes(8))
    with pytest.raises(PositronicError, match="topic '/grip' has its own definition of std_msgs/msg/Float32"):
        tracks_of(bag.path)
