"""A bake gives what the codec says, the same each time, or nothing."""

import io
import json
import shutil

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from rich.console import Console

from positronic import keys
from positronic.bake import report
from positronic.bake.convert import BakeOptions, bake
from positronic.bake.episode import Rejected
from positronic.bake.manifest import read_manifest
from positronic.bake.report import BakeReport
from positronic.bake.sampling import episode_grid, sample_vectors
from positronic.bake.sidecar import HISTOGRAMS_FILE
from positronic.codecs.build import Recipe
from positronic.errors import PositronicError
from positronic.raw.dataset import open_dataset
from positronic.raw.leftout import LeftOut

CODECS = ["ee", "joints", "ee_traj", "joints_traj"]
NO_VERSIONS = {"commit": None, "dirty": None, "versions": {}}


def rows(folder, column):
    """A column of the data files, (T, D)."""
    tables = [pq.read_table(path, columns=[column]) for path in sorted((folder / "data").glob("*/*.parquet"))]
    return np.array([row for table in tables for row in table.column(0).to_pylist()], np.float32)


def stats(folder):
    return json.loads((folder / "meta/stats.json").read_text())


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", CODECS)
@settings(deadline=None, max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1),
    start_ns=st.integers(0, 2**60),
    vector_hz=st.floats(5, 300),
    camera_hz=st.floats(5, 60),
    fps=st.integers(1, 60),
)
def test_baked_features_are_what_is_encoded_live(
    record, recipe, baked, name, seed, start_ns, vector_hz, camera_hz, fps
):
    """For every grid time: the dataset's row is the live encoding of the observation at that time, bit for bit."""
    assume(fps < min(3.9 * max(vector_hz, camera_hz), 9.9 * camera_hz))  # a denser grid is refused
    dataset = record(seed=seed, start_ns=start_ns, vector_hz=vector_hz, camera_hz=camera_hz)[-1:]
    used = recipe(name).at_fps(fps)
    folder, episode = baked(dataset, used, f"baked-{dataset[0].id}"), dataset[0]
    used = read_manifest(folder).load_recipe()
    codec = used.codec
    times = episode_grid(episode, codec.signals, codec.timing.fps)
    assert len(times) == read_manifest(folder).frames
    labels = codec.encode_episode({name: episode[name].at(times) for name in codec.vector_signals})
    columns = {column.name: rows(folder, column.name) for column in used.modality.vector_columns}
    for k, time_ns in enumerate(times):
        vectors = {each.signal: episode[each.signal].at([time_ns])[0] for each in codec.state}
        images = {
            image.signal: episode[image.signal].frame(episode[image.signal].index_at(time_ns)) for image in codec.images
        }
        live = codec.encode(vectors | images) | {feature.name: labels[feature.name][k] for feature in codec.action}
        for column in used.modality.vector_columns:
            np.testing.assert_array_equal(columns[column.name][k], column.join(live), err_msg=f"{column.name} at {k}")


def test_any_number_of_workers_gives_the_same_bytes(record, recipe, baked):
    """Every file, videos included, of a bake in this process and over two."""
    for seed in range(5):
        dataset = record(seconds=0.5 + 0.2 * seed, seed=seed, task=f"task {seed % 2}")
    one, two = baked(dataset, recipe(), "one"), baked(dataset, recipe(), "two", num_workers=2)
    assert contents(one) == contents(two)


def test_the_same_recording_elsewhere_gives_the_same_bytes(record, recipe, baked, tmp_path):
    """Neither the raw dataset's place nor the output's is in the result."""
    first = baked(record(), recipe(), "one")
    shutil.copytree(tmp_path / "raw", tmp_path / "elsewhere" / "moved")
    second = baked(open_dataset(tmp_path / "elsewhere" / "moved"), recipe(), "two")
    assert contents(first) == contents(second)


def test_statistics_are_numpys_over_all_frames(record, recipe, baked):
    """stats.json: vectors over all rows; images over all pixels given to the encoder, the black around included."""
    record(seconds=1.5, seed=1)
    dataset, used = record(seconds=0.7, seed=2), recipe()
    folder = baked(dataset, used)
    found = stats(folder)
    for column in used.modality.vector_columns:
        values = rows(folder, column.name).astype(np.float64)
        np.testing.assert_allclose(found[column.name]["std"], values.std(axis=0), rtol=1e-12)
        np.testing.assert_allclose(found[column.name]["q90"], np.quantile(values, 0.9, axis=0), rtol=1e-12)
    column = used.modality.image_columns[0]
    image, pixels = column.sources[0], []
    for episode in dataset:
        signal = episode[image.signal]
        times = episode_grid(episode, used.codec.signals, used.codec.timing.fps)
        pixels += [image.encode(frame) / 255 for frame in signal.frames(signal.index_at(times))]
    flat = np.concatenate(pixels).reshape(-1, 3)
    np.testing.assert_allclose(np.ravel(found[column.name]["mean"]), flat.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(np.ravel(found[column.name]["q10"]), np.quantile(flat, 0.1, axis=0), rtol=1e-12)
    assert found[column.name]["count"] == [len(pixels)]


def test_statistics_of_the_bookkeeping_are_numpys_too(record, recipe, baked):
    """timestamp, frame_index, episode_index, index and task_index."""
    for number in range(3):
        dataset = record(seconds=0.5 + 0.4 * number, task=f"task {number % 2}", seed=number)
    folder = baked(dataset, recipe())
    table, found = pq.read_table(folder / "data/chunk-000/file-000.parquet"), stats(folder)
    for name in ("timestamp", "frame_index", "episode_index", "index", "task_index"):
        values = table.column(name).to_numpy().astype(np.float64)
        assert found[name]["count"] == [len(values)]
        for key, expected in {"mean": values.mean(), "std": values.std(), "max": values.max()}.items():
            np.testing.assert_allclose(found[name][key], [expected], rtol=1e-12, err_msg=f"{name} {key}")
        np.testing.assert_allclose(found[name]["q10"], [np.quantile(values, 0.1)], rtol=1e-12, atol=1e-12, err_msg=name)


def test_a_rate_and_a_task_can_be_given(record, recipe, baked):
    """fps changes the grid and the recipe in the manifest; task replaces every episode's own."""
    folder = baked(record(seconds=2), recipe().at_fps(5), task="something else")
    manifest = read_manifest(folder)
    assert (manifest.fps, manifest.load_recipe().codec.timing.fps, manifest.task) == (5, 5, "something else")
    assert pq.read_table(folder / "meta/tasks.parquet").column("task").to_pylist() == ["something else"]
    assert len(rows(folder, "action")) == 10


def test_an_episode_without_a_task_has_an_empty_one(record, recipe, baked):
    """It is not bad."""
    folder = baked(record(task=None), recipe())
    assert pq.read_table(folder / "meta/tasks.parquet").column("task").to_pylist() == [""]


def test_the_sidecar_says_where_episodes_came_from(record, recipe, baked):
    """Their uid, fingerprint and length, in the dataset's order."""
    record(seed=1)
    dataset = record(seed=2)
    table = pq.read_table(baked(dataset, recipe()) / keys.EPISODES_SIDECAR).to_pydict()
    assert table["uid"] == [episode.uid for episode in dataset]
    assert table["fingerprint"] == [episode.fingerprint() for episode in dataset]
    assert table["episode_index"] == [0, 1]


def test_an_output_that_exists_is_refused_untouched(record, recipe, baked, tmp_path):
    """The message says what to do."""
    (tmp_path / "baked").mkdir()
    (tmp_path / "baked" / "mine.txt").write_text("mine")
    with pytest.raises(PositronicError, match=r"exists already.*output_dir"):
        baked(record(), recipe())
    assert contents(tmp_path / "baked") == {"mine.txt": b"mine"}


def test_a_signal_that_is_missing_everywhere_is_named_before_any_work(record, recipe, baked, tmp_path):
    """Nothing is written."""
    with pytest.raises(PositronicError, match=r"'ee' needs 'robot_commands.pose', which no episode"):
        baked(record(leave_out=(keys.COMMAND_POSE,)), recipe())
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_an_inference_only_codec_is_refused_with_its_reason(record, recipe, tmp_path):
    """As converting with it would train the wrong thing."""
    used = recipe()
    fields = used.to_dict()
    fields["codec"] |= {"inference_only": "its actions are velocities."}
    with pytest.raises(PositronicError, match=r"cannot be converted with: its actions are velocities"):
        bake(record(), Recipe.from_dict(fields), tmp_path / "baked", BakeOptions("lerobot"), NO_VERSIONS)


def spoil(dataset, number, kind):
    """Damage an episode on disk."""
    folder = dataset[number].path
    video = folder / f"{keys.IMAGE_WRIST}.mp4"
    if kind == "truncated":
        video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    elif kind == "no index":
        (folder / f"{keys.IMAGE_WRIST}.frames.parquet").unlink()
    elif kind == "no signal":
        (folder / f"{keys.TARGET_GRIP}.parquet").unlink()
    else:
        path = folder / f"{keys.GRIP}.parquet"
        table = pq.read_table(path).to_pydict()
        table["value"][3] = float("nan")
        pq.write_table(pq.read_table(path).set_column(1, "value", [table["value"]]), path)


SPOILED = {"truncated": "mp4", "no index": "no index", "no signal": "target_grip", "nan": "not finite"}


@pytest.mark.parametrize(("kind", "reason"), SPOILED.items())
def test_a_bad_episode_stops_the_bake_and_is_named(record, recipe, baked, tmp_path, kind, reason):
    """With its path and what is wrong with it; nothing is published."""
    record(seed=1)
    dataset = record(seed=2)
    spoil(dataset, 1, kind)
    with pytest.raises(PositronicError, match=rf"1 of 2 episodes are bad.*\n.*000000000001.*{reason}") as refused:
        baked(open_dataset(tmp_path / "raw"), recipe())
    assert "on_bad_episode=skip" in str(refused.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".baked.pieces", "raw"]


@pytest.mark.parametrize("workers", [1, 2])
def test_all_bad_episodes_are_listed_at_once(record, recipe, baked, tmp_path, workers):
    """Also those after the one that stopped the bake."""
    for seed in range(4):
        dataset = record(seed=seed)
    spoil(dataset, 1, "nan")
    spoil(dataset, 3, "no index")
    with pytest.raises(PositronicError, match=r"2 of 4 episodes are bad.*\n.*0001: .*\n.*0003: "):
        baked(dataset, recipe(), num_workers=workers)


def test_a_depth_camera_where_colour_is_expected_is_a_bad_episode(record, recipe, baked):
    """12 bits of distance are not cut to 8 and made a colour: the camera and its pixel format are named."""
    dataset = record()
    path = dataset[0].path / f"{keys.IMAGE_WRIST}.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx265", rate=100, options={"x265-params": "lossless=1:log-level=none"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "gray12le"
        for k in range(12):
            frame = av.VideoFrame(64, 64, "gray12le")
            frame.planes[0].update(np.full(frame.planes[0].buffer_size // 2, 200 * k, np.uint16).tobytes())
            frame.pts = k
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with pytest.raises(PositronicError, match="image.wrist.mp4 holds pictures in the pixel format gray12le"):
        baked(dataset, recipe())


def test_bad_episodes_can_be_skipped_and_are_reported(record, recipe, baked):
    """The others are numbered on without a gap; the report counts and names what was left out."""
    for seed in range(3):
        dataset = record(seed=seed)
    spoil(dataset, 1, "truncated")
    folder = baked(dataset, recipe(), on_bad_episode="skip")
    found = json.loads((folder / report.REPORT_FILE).read_text())
    assert (found["episodes"], found["bad_episodes"], found["bad"][0]["episode"]) == (2, 1, 1)
    assert keys.IMAGE_WRIST in found["bad"][0]["reason"]
    assert set(rows(folder, "episode_index")) == {0, 1}


def test_episodes_with_the_same_content_are_counted(record, recipe, baked, tmp_path):
    """A first bake takes them; the report says how many."""
    shutil.copytree(record()[0].path, tmp_path / "raw" / "000000000000" / "000000000001")
    folder = baked(open_dataset(tmp_path / "raw"), recipe())
    found = json.loads((folder / report.REPORT_FILE).read_text())
    assert (found["episodes"], found["repeated_episodes"]) == (2, 1)


def test_no_good_episode_is_an_error_even_when_skipping(record, recipe, baked, tmp_path):
    """An empty dataset is not published."""
    dataset = record()
    spoil(dataset, 0, "nan")
    with pytest.raises(PositronicError, match=r"1 of 1 episodes are bad.*\n.*\n.*no good episode"):
        baked(dataset, recipe(), on_bad_episode="skip")
    assert not (tmp_path / "baked").exists()


def test_a_camera_that_stopped_is_bad_unless_that_is_allowed(record, recipe, baked):
    """max_staleness_sec decides."""
    dataset = record(seconds=3, camera_until_sec=1)
    with pytest.raises(PositronicError, match="stands still"):
        baked(dataset, recipe())
    assert read_manifest(baked(dataset, recipe(), max_staleness_sec=None)).episodes == 1


def test_a_state_that_stopped_is_bad_unless_that_is_allowed(record, recipe, baked, tmp_path):
    """max_state_staleness_sec decides; the arm was told to move on."""
    path = record(seconds=3)[0].path / f"{keys.EE_POSE}.parquet"
    pq.write_table(pq.read_table(path).slice(0, 40), path)  # the first second
    dataset = open_dataset(tmp_path / "raw")
    with pytest.raises(PositronicError, match=rf"'{keys.EE_POSE}' stands still from .*max_state_staleness_sec=1, null"):
        baked(dataset, recipe())
    assert read_manifest(baked(dataset, recipe(), max_state_staleness_sec=None)).max_state_staleness_sec is None


def test_a_number_that_float32_cannot_hold_is_bad(record, recipe, baked, tmp_path):
    """It is finite where it was recorded, and would be infinite in the columns and in their statistics."""
    path = record()[0].path / f"{keys.TARGET_GRIP}.parquet"
    table = pq.read_table(path)
    huge = pa.array([1e39] * len(table), pa.float64())
    pq.write_table(table.set_column(table.schema.get_field_index("value"), "value", huge), path)
    with pytest.raises(PositronicError, match="column 'action' holds numbers too large for float32"):
        baked(open_dataset(tmp_path / "raw"), recipe())


def test_half_a_character_in_a_task_is_bad(record, recipe, baked, tmp_path):
    """JSON can say it, no file in UTF-8 can hold it."""
    (record()[0].path / "static.json").write_text('{"task": "stack \\ud83d"}')
    with pytest.raises(PositronicError, match="static 'task' holds half a character"):
        baked(open_dataset(tmp_path / "raw"), recipe())


def test_a_task_is_shown_as_it_was_written(record, recipe):
    """What looks like the table's own markup is not; a very long one is cut."""
    tasks = {"pick [/red] or [bold]blue": 15, "x" * 1000: 15}
    bad = (Rejected(7, "u", "somewhere", "found shape [/3]"),)
    made = BakeReport("data/[b]", 2, 30, 15, tasks, bad, (), [], repeated=0, added_frames=30, resumed=0)
    console = Console(width=200, file=io.StringIO())
    console.print(made)
    shown = console.file.getvalue()
    assert all(text in shown for text in ("pick [/red] or [bold]blue", "data/[b]", "found shape [/3]"))
    assert "x" * 200 not in shown.replace("\n", "")


def test_a_camera_recorded_as_numbers_is_bad(record, recipe, baked, tmp_path):
    """It is not taken for an image, nor a video for numbers."""
    dataset = record()
    folder = dataset[0].path
    swapped = [(keys.GRIP, keys.IMAGE_WRIST, ".parquet"), (keys.IMAGE_WRIST, keys.GRIP, ".frames.parquet")]
    for source, target, end in [*swapped, (keys.IMAGE_WRIST, keys.GRIP, ".mp4")]:
        (folder / (source + end)).rename(folder / f"{target}{end}.new")
    for file in folder.glob("*.new"):
        file.rename(file.with_suffix(""))
    with pytest.raises(PositronicError, match="expected a camera"):
        baked(dataset, recipe())
    with pytest.raises(PositronicError, match="expected numbers"):
        sample_vectors(dataset[0], [keys.GRIP], np.array([0]))


def test_the_histograms_of_each_episode_are_kept(record, recipe, baked):
    """A row per episode and a column per camera; each channel's counts are all of its pixels."""
    record(seed=1, seconds=0.5)
    folder = baked(record(seed=2), recipe())
    rows_kept = pq.read_table(folder / HISTOGRAMS_FILE).to_pydict()
    lengths = pq.read_table(folder / keys.EPISODES_SIDECAR).column("length").to_pylist()
    for histograms in rows_kept.values():
        counted = np.array(histograms).reshape(2, 3, 256).sum(axis=2)
        np.testing.assert_array_equal(counted, np.array(lengths)[:, None] * np.full(3, 32 * 32))


ORDER = [f"joint{i}" for i in range(7)]


def test_joints_in_another_order_are_named(record, recipe, recipe_of, baked):
    """They have the same shape; both orders are printed. A codec without joints does not care."""
    for _ in range(2):
        dataset = record()
    for episode, names in zip(dataset, (ORDER, ORDER[::-1]), strict=True):
        (episode.path / "static.json").write_text(json.dumps({keys.TASK: "x", keys.JOINT_NAMES: names}))
    with pytest.raises(PositronicError) as caught:
        baked(open_dataset(dataset.root), recipe_of(dataset, "joints"))
    assert f"its joints are {', '.join(ORDER[::-1])}; expected {', '.join(ORDER)}, in this order." in str(caught.value)
    baked(open_dataset(dataset.root), recipe("ee"))


def test_what_is_left_out_and_noted_is_in_the_report(record, recipe, baked):
    """Unfinished episodes by name, and the episode whose meta data is lost."""
    for _ in range(2):
        dataset = record()
    (dataset[0].path / "meta.json").unlink()
    (dataset[1].path / keys.UNFINISHED).touch()
    folder = baked(open_dataset(dataset.root), recipe())
    told = json.loads((folder / "meta" / "bake_report.json").read_text())
    assert told["left_out"] == {"unfinished": ["000000000001"], "dropped": 0}
    assert [(note["episode"], note["note"][:20]) for note in told["notes"]] == [(0, "meta.json is missing")]


def test_the_table_says_what_is_left_out():
    """Names and counts, not only the number of good ones."""
    made = BakeReport(
        "data", 1, 1, 15, {}, (), (), [], 0, 1, 0, left_out=LeftOut(("000000000001",), 2, ("x",)), notes=((3, "odd"),)
    )
    console = Console(width=120, file=io.StringIO())
    console.print(made)
    shown = console.file.getvalue()
    assert all(text in shown for text in ("1 episodes: 000000000001", "dropped by edits.jsonl", "unknown uids", "odd"))
