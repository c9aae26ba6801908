"""LeRobot datasets: v3.0 by LeRobot's own API, v2.0 and v2.1 as they were laid out; read, checked and imported."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lerobot_writer import (
    FPS,
    FRONT,
    HEIGHT,
    MOTORS,
    TASKS,
    WIDTH,
    WRIST,
    data_of,
    frame,
    rows,
    video_of,
    write_by_lerobot,
    write_v2,
    write_video,
)

import positronic
from positronic import keys
from positronic.errors import PositronicError
from positronic.importing.lerobot import LerobotSource
from positronic.importing.source import COMMANDED, IMAGE, MEASURED, SCALAR, VECTOR, How
from positronic.stages.convert import run as run_convert
from positronic.stages.import_ import run

PUBLISHED = Path(__file__).parents[1] / "data" / "raw_v1"


@pytest.fixture(scope="module")
def by_lerobot(tmp_path_factory):
    """v3.0 with three episodes. Read only."""
    root = tmp_path_factory.mktemp("lerobot") / "so101"
    write_by_lerobot(root)
    return root


@pytest.fixture
def v3(by_lerobot, tmp_path):
    """A copy to be damaged."""
    return shutil.copytree(by_lerobot, tmp_path / "so101")


def read(episode, field):
    with episode.open({field: How()}) as reading:
        return reading.read(field)


def frames(episode, field):
    with episode.open({field: How()}) as reading:
        return list(reading.frames(field))


def imported(path, *more):
    typed = [f"path={path}", f"output_dir={path.parent / 'raw'}", "embodiment=so101", "num_workers=1", *more]
    return run(positronic.compose(["stage=import", "source=lerobot", *typed]))


def test_lerobots_own_dataset_says_names_rate_and_roles(by_lerobot):
    fields = LerobotSource(by_lerobot).fields()
    assert set(fields) == {"action", "observation.state", WRIST, FRONT}
    state = fields["observation.state"]
    assert (state.kind, state.shape, state.names, state.rate_hz) == (VECTOR, (6,), tuple(MOTORS), FPS)
    assert (state.role, fields["action"].role, state.samples) == (MEASURED, COMMANDED, 6)
    assert [fields[name].encoding for name in (WRIST, FRONT)] == ["av1", "png"]
    assert all((fields[name].kind, fields[name].shape) == (IMAGE, (HEIGHT, WIDTH, 3)) for name in (WRIST, FRONT))


def test_extremes_are_those_of_all_episodes_where_the_dataset_states_them(by_lerobot):
    action = LerobotSource(by_lerobot).fields()["action"]
    assert (action.low[0], action.high[0]) == (1, 111)


def test_degrees_and_the_grippers_ends_are_believed_and_somebody_must_agree(by_lerobot):
    believed = LerobotSource(by_lerobot).fields()["action"].believed
    assert {name: belief.value for name, belief in believed.items()} == {"unit": "degrees", "open": 100, "closed": 0}
    assert not any(belief.known for belief in believed.values())


@pytest.mark.parametrize(
    ("end", "unit", "why"),
    [(100, "m100_100", "an end is at 100"), (70, "degrees", "fit both"), (120, "degrees", "beyond")],
)
def test_the_unit_is_believed_by_where_the_numbers_end(tmp_path, end, unit, why):
    root = write_v2(tmp_path / "so100", "v2.0")
    numbers = {"min": [-50.0] * 5 + [0.0], "max": [float(end)] * 5 + [100.0]}
    (root / "meta" / "stats.json").write_text(json.dumps({"action": numbers}))
    belief = LerobotSource(root).fields()["action"].believed["unit"]
    assert belief.value == unit
    assert why in belief.why


def test_episodes_in_shared_files_are_read_each_by_its_own_rows(by_lerobot):
    episodes = LerobotSource(by_lerobot).episodes()
    assert [episode.name for episode in episodes] == ["episode_000000", "episode_000001", "episode_000002"]
    assert [episode.task for episode in episodes] == [TASKS[0], TASKS[1], TASKS[0]]
    for episode, length in zip(episodes, (6, 4, 5), strict=True):
        times, values = read(episode, "action")
        assert times.tolist() == [10**8 * at for at in range(length)]
        assert np.array_equal(values, rows(length, ahead=1.0))


@pytest.mark.parametrize(("field", "ahead"), [(WRIST, 0), (FRONT, 1)])
def test_frames_of_shared_videos_and_of_pictures_in_parquet(by_lerobot, field, ahead):
    """Each is as blue as its number in the episode."""
    for episode, length in zip(LerobotSource(by_lerobot).episodes(), (6, 4, 5), strict=True):
        times, pictures = zip(*frames(episode, field), strict=True)
        assert times == tuple(10**8 * at for at in range(length))
        expected = np.stack([frame(at + ahead) for at in range(length)])
        assert np.abs(np.stack(pictures).astype(int) - expected).mean() < 4


def test_a_shared_video_is_pointed_at_where_the_episode_begins(by_lerobot):
    last = LerobotSource(by_lerobot).episodes()[2]
    with last.open({WRIST: How(), FRONT: How()}) as reading:
        span = reading.video(WRIST)
        assert (span.first, len(span.times_ns)) == (10, 5)
        assert reading.video(FRONT) is None


def test_episodes_are_cheap_to_send_to_processes(by_lerobot):
    first = LerobotSource(by_lerobot).episodes()[0]
    assert read(pickle.loads(pickle.dumps(first)), "action")[1].shape == (6, 6)


@pytest.mark.parametrize("version", ["v2.0", "v2.1"])
def test_a_dataset_with_a_file_per_episode(tmp_path, version):
    source = LerobotSource(write_v2(tmp_path / "so100", version))
    fields = source.fields()
    assert (fields["action"].names, fields["next.done"].kind) == (tuple(MOTORS), SCALAR)
    second = source.episodes()[1]
    assert (second.name, second.task, second.statics) == ("episode_000001", TASKS[1], {"robot_type": "so100"})
    assert np.array_equal(read(second, "observation.state").values, rows(4))
    assert read(second, "next.done").values.tolist() == [False, False, False, True]
    for field, ahead in ((FRONT, 0), (WRIST, 1)):
        pictures = np.stack([picture for _, picture in frames(second, field)])
        assert np.abs(pictures.astype(int) - np.stack([frame(at + ahead) for at in range(4)])).mean() < 4


@pytest.mark.parametrize(
    ("said", "names"),
    [
        (["a", "b"], ("a", "b")),
        ({"motors": ["a", "b"]}, ("a", "b")),
        ({"left": {"arm": ["a"]}, "right": [["b"]]}, ("a", "b")),
        ({"b": 1, "a": 0}, ("a", "b")),
        (None, None),
        (["motor_0", "motor_1"], None),
        (["a"], None),
    ],
)
def test_names_of_numbers_however_they_are_written(tmp_path, said, names):
    """Names that only count, or of another number than there are, are none."""

    def change(info):
        info["features"]["action"] = {"dtype": "float32", "shape": [2], "names": said}

    assert LerobotSource(write_v2(tmp_path / "so100", change=change)).info.features["action"].names == names


def test_what_is_not_imported_is_listed_with_the_reason(tmp_path):
    def change(info):
        info["features"]["grid"] = {"dtype": "float32", "shape": [4, 4], "names": None}
        info["features"]["depth"] = {
            "dtype": "video",
            "shape": [48, 64, 1],
            "names": None,
            "info": {"is_depth_map": True},
        }

    source = LerobotSource(write_v2(tmp_path / "so100", change=change))
    assert {"grid", "depth"}.isdisjoint(source.fields())
    assert source.unsupported["depth"].startswith("depth")
    assert "[4, 4]" in source.unsupported["grid"]


def test_an_so101_dataset_becomes_a_raw_one(by_lerobot, tmp_path):
    """Degrees become rad, and 100 open becomes 0; videos are copied, as their keyframes allow."""
    shutil.copytree(by_lerobot, tmp_path / "so101")
    result = imported(tmp_path / "so101", "agree=true")
    dataset = positronic.open_raw(result.path)
    assert [episode.statics[keys.TASK] for episode in dataset] == [TASKS[0], TASKS[1], TASKS[0]]
    second = dataset[1]
    assert np.allclose(second[keys.JOINT_POSITION].values, np.deg2rad(rows(4)[:, :5]))
    assert np.allclose(second[keys.COMMAND_JOINTS].values, np.deg2rad(rows(4, ahead=1.0)[:, :5]))
    assert np.allclose(second[keys.GRIP].values, np.linspace(0, 1, 4))
    assert {key for each in result.recorded for key in each.copied} == {"image.wrist"}
    assert np.abs(second["image.wrist"].frame(3).astype(int) - frame(3)).mean() < 4
    assert np.abs(second["image.front"].frame(3).astype(int) - frame(4)).mean() < 4


def rewritten(path, change):
    """The parquet file with ``change(table)``."""
    pq.write_table(change(pq.read_table(path)), path)


def column(name, values):
    return lambda table: table.set_column(table.schema.get_field_index(name), name, values)


def refusal(root, field="action", episode=0):
    """What reading the episode's field says."""
    with pytest.raises(PositronicError) as refused:
        get(root, field, episode)
    return str(refused.value)


def get(root, field, episode):
    source = LerobotSource(root)
    is_camera = source.info.features[field].kind == IMAGE
    return (frames if is_camera else read)(source.episodes()[episode], field)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda info: info.update(total_episodes=3), "2 episodes; .*info.json says 3. Is the dataset still being"),
        (lambda info: info.update(total_frames=11), "10 frames; .*info.json says 11"),
        (lambda info: info.update(fps=20), "timestamp of frame 1 is 0.1 s; .*says fps 20, which makes it 0.05"),
        (lambda info: info["features"]["action"].update(shape=[7]), r"'action': rows of 6 numbers; .*says shape \[7\]"),
        (lambda info: info["features"]["action"].update(dtype="int64"), "'action': float; .*says dtype int64"),
        (lambda info: info.update(codebase_version="v1.6"), "v1.6; expected one of v2.0, v2.1, v3.0"),
        (lambda info: info.pop("fps"), "info.json: it cannot be read .'fps' is not there"),
        (
            lambda info: info.update(data_path="data/{other}.parquet"),
            "the path 'data/{other}.parquet' cannot",
        ),
    ],
)
def test_an_info_that_contradicts_the_rows_is_named_with_both_sides(tmp_path, change, says):
    root = write_v2(tmp_path / "so100", change=change)
    with pytest.raises(PositronicError, match=says):
        read(LerobotSource(root).episodes()[0], "action")


def test_a_column_that_info_lists_and_the_rows_lack(tmp_path):
    root = write_v2(tmp_path / "so100")
    rewritten(data_of(root, 1), lambda table: table.rename_columns({"action": "actions"}))
    assert "no column 'action', which" in refusal(root, episode=1)
    assert "Did you mean 'actions'" in refusal(root, episode=1)


def test_rows_that_are_missing_or_of_another_episode(tmp_path):
    root = write_v2(tmp_path / "so100")
    rewritten(data_of(root, 0), lambda table: table.slice(0, 5))
    assert "5 rows; the list of episodes says 6" in refusal(root)
    shutil.copyfile(data_of(root, 0), data_of(root, 1))
    assert "episode 1: 0 rows; the list of episodes says 4" in refusal(root, episode=1)


def test_rows_out_of_order_and_of_another_task(tmp_path):
    root = write_v2(tmp_path / "so100")
    rewritten(data_of(root, 0), lambda table: table.take([0, 2, 1, 3, 4, 5]))
    assert "frame_index does not count its rows" in refusal(root)
    rewritten(data_of(root, 1), column("task_index", pa.array([0] * 4)))
    assert "task_index [0]; the list of episodes says [1]" in refusal(root, episode=1)


def test_rows_without_a_value(tmp_path):
    root = write_v2(tmp_path / "so100")
    numbers = [None, *rows(6)[1:].tolist()]
    rewritten(data_of(root, 0), column("action", pa.array(numbers, pa.list_(pa.float32()))))
    assert "'action': 1 rows without a value" in refusal(root)


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ({"length": 5}, "5 frames; the list of episodes says 6"),
        ({"length": 7}, "7 frames; the list of episodes says 6"),
        ({"length": 6, "fps": 20}, "frame 2 is shown 0.1 s after the first; .*says fps 10, which makes it 0.2 s"),
        ({"length": 6, "height": 32}, "frames of 32 x 64 .height x width.; .*says 48 x 64"),
    ],
)
def test_a_video_that_contradicts_info_is_named_with_both_sides(tmp_path, written, says):
    root = write_v2(tmp_path / "so100")
    write_video(video_of(root, 0), **written)
    with pytest.raises(PositronicError, match=says):
        frames(LerobotSource(root).episodes()[0], FRONT)


def test_a_video_that_is_missing_or_cut_short(tmp_path):
    root = write_v2(tmp_path / "so100")
    path = video_of(root, 1)
    path.write_bytes(path.read_bytes()[:-20])
    assert "cut short" in refusal(root, FRONT, episode=1)
    path.unlink()
    assert "missing; " in refusal(root, FRONT, episode=1)
    assert "lists the camera 'observation.images.front', and episode 1" in refusal(root, FRONT, episode=1)


def test_a_shared_video_that_ends_before_the_last_episode(v3):
    (path,) = (v3 / "videos" / WRIST).rglob("*.mp4")
    write_video(path, 13)
    assert "episode 2: 3 frames; the list of episodes says 5" in refusal(v3, WRIST, episode=2)


def test_a_dataset_that_is_still_being_recorded_is_named(tmp_path):
    """LeRobot's recorder ends its parquet files only in ``finalize``."""
    writer = write_by_lerobot(tmp_path / "so101", lengths=(4, 4), finish=False)
    try:
        assert "Is the dataset still being recorded" in refusal(tmp_path / "so101")
    finally:
        writer.finalize()


def test_one_bad_episode_is_left_out_when_told_to(tmp_path):
    root = write_v2(tmp_path / "so100")
    video_of(root, 0).unlink()
    result = imported(root, "agree=true", "on_bad_episode=skip")
    assert [each.name for each in result.recorded] == ["episode_000001"]
    assert "missing" in result.refused[0].reason


def test_an_episode_with_two_tasks_needs_one_told(tmp_path):
    root = write_v2(tmp_path / "so100")
    text = (root / "meta" / "episodes.jsonl").read_text()
    (root / "meta" / "episodes.jsonl").write_text(text.replace(f'["{TASKS[0]}"]', json.dumps(TASKS)))
    with pytest.raises(PositronicError, match="has the tasks Fold the towel., Unfold it.; a raw episode has one"):
        imported(root, "agree=true")
    dataset = positronic.open_raw(imported(root, "agree=true", "task=Fold.").path)
    assert [episode.statics[keys.TASK] for episode in dataset] == ["Fold.", "Fold."]


def test_a_folder_of_datasets_is_no_dataset(tmp_path):
    write_v2(tmp_path / "mine" / "so100")
    with pytest.raises(PositronicError, match="no LeRobot dataset.*some below: .*so100. Type the path of one"):
        LerobotSource(tmp_path / "mine")


@pytest.mark.parametrize(
    ("vendor", "codec", "layout"),
    [
        ("lerobot", "ee", "v3.0"),
        ("lerobot", "joints", "v2.1"),
        ("gr00t", "ee_rot6d_joints", "v3.0"),
        ("openpi", "ee_joints_traj", "v2.1"),
    ],
)
def test_what_was_baked_here_is_imported_and_baked_again_without_a_question(tmp_path, vendor, codec, layout):
    """The columns come back, but for each episode's last row: a recording ends with its last stamp."""
    typed = [f"vendor={vendor}", f"codec={codec}", f"dataset_format={layout}", "num_workers=1"]
    small = ["modality.image_size=[64,64]", "fps=5"]

    def baked(raw, name):
        where = ["dataset=local", f"dataset.path={raw}", f"output_dir={tmp_path / name}"]
        run_convert(positronic.compose(["stage=convert", *where, *typed, *small]))
        return columns_of(tmp_path / name)

    before = baked(PUBLISHED, "baked")
    robot = [] if LerobotSource(tmp_path / "baked").embodiment else ["embodiment=franka"]
    places = [f"path={tmp_path / 'baked'}", f"output_dir={tmp_path / 'again'}", "num_workers=1"]
    run(positronic.compose(["stage=import", "source=lerobot", *places, *robot]))
    after = baked(tmp_path / "again", "again_baked")
    assert before.keys() == after.keys()
    ends = np.flatnonzero(np.diff(before["episode_index"][:, 0], append=-1))
    for name in before.keys() - {"index"}:
        assert np.allclose(np.delete(before[name], ends, axis=0), after[name], atol=1e-6), name


def columns_of(root):
    """All numbers of a dataset."""
    paths = sorted((root / "data").rglob("*.parquet"))
    table = pa.concat_tables(pq.read_table(path) for path in paths)
    return {name: np.array(table[name].to_pylist()).reshape(len(table), -1) for name in table.column_names}
