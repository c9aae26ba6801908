"""Every file of a recording, damaged in every way we know: it is named, or said, or makes no difference."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from positronic import keys
from positronic.bake.config import VideoConfig
from positronic.bake.episode import EpisodeBaker, check_episode
from positronic.bake.sampling import camera_indices, episode_grid, sample_vectors
from positronic.raw.episode import Episode
from positronic.raw.fingerprint import FILES
from positronic.raw.writer import DatasetWriter

NS = 10**9
HZ = 30
FRAMES = 45
POSE, GRIP, CAMERA = f"{keys.EE_POSE}.parquet", f"{keys.GRIP}.parquet", f"{keys.IMAGE_WRIST}.mp4"
INDEX = f"{keys.IMAGE_WRIST}.frames.parquet"
SIGNAL_FILES = (POSE, GRIP, f"{keys.COMMAND_POSE}.parquet", f"{keys.TARGET_GRIP}.parquet", CAMERA, INDEX)


def record(root: Path, seed: int) -> Path:
    """A hand that swings and turns, seen by two cameras."""
    with DatasetWriter(root).new_episode() as episode:
        for tick in range(FRAMES):
            time_ns, angle = tick * NS // HZ, seed + tick / HZ
            pose = np.array([0.4, 0.3 * np.sin(angle), 0.2, np.cos(angle / 2), 0, 0, np.sin(angle / 2)])
            episode.append(keys.EE_POSE, pose, time_ns)
            episode.append(keys.COMMAND_POSE, pose, time_ns)
            episode.append(keys.GRIP, 0.5 + 0.4 * np.sin(angle), time_ns)
            episode.append(keys.TARGET_GRIP, 0.5 + 0.4 * np.cos(angle), time_ns)
            for camera in (keys.IMAGE_WRIST, keys.IMAGE_EXTERIOR):
                episode.append(camera, np.full((32, 32, 3), 5 * tick, np.uint8), time_ns)
        episode.set_static(keys.TASK, "stack")
    return episode.path


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> tuple[Path, Path]:
    """Two episodes, which no test changes."""
    root = tmp_path_factory.mktemp("raw")
    return record(root, 0), record(root, 1)


@pytest.fixture
def episode(recorded, tmp_path) -> Path:
    """A copy to damage."""
    return shutil.copytree(recorded[0], tmp_path / "000000000000" / "000000000000")


@pytest.fixture
def judge(recipe, recorded) -> Callable[[Path], str]:
    """``named: ...``, ``said: ...`` or ``harmless``; fails when other numbers are baked without a word."""
    used = recipe()
    baker = EpisodeBaker(used.codec, used.modality, VideoConfig(), None, 1.0, 1.0)

    def content(path):
        episode, codec = Episode(path), used.codec
        times = episode_grid(episode, codec.signals, codec.timing.fps)
        frames = [camera_indices(episode, image.signal, times, None) for image in codec.images]
        columns = codec.encode_episode(sample_vectors(episode, codec.vector_signals, times))
        return [times - times[0], *frames, *columns.values()], episode.fingerprint(), episode.statics

    before = content(recorded[0])

    def of(path):
        result = check_episode(baker, Episode(path))
        if result is not None:
            return f"named: {result.reason}"
        notes = Episode(path).notes
        if notes:
            return f"said: {' '.join(notes)}"
        after = content(path)
        assert all(np.array_equal(new, old) for new, old in zip(after[0], before[0], strict=True)), "silent"
        assert after[1:] == before[1:], "silent"
        return "harmless"

    return of


BYTES = {
    "cut by 8 bytes": lambda content, other: content[:-8],
    "cut to half": lambda content, other: content[: len(content) // 2],
    "emptied": lambda content, other: b"",
    "replaced by text": lambda content, other: b"Stack the cubes.\n" * 100,
    "zeroed": lambda content, other: bytes(len(content)),
    "of another episode": lambda content, other: other,
} | {
    f"a byte flipped at {share:.0%}": lambda content, other, share=share: flipped(content, int(share * len(content)))
    for share in (0.0, 0.05, 0.3, 0.5, 0.7, 0.95, 0.999)
}


def flipped(content: bytes, offset: int) -> bytes:
    return content[:offset] + bytes([content[offset] ^ 0x10]) + content[offset + 1 :]


@pytest.mark.parametrize("damage", BYTES)
@pytest.mark.parametrize("name", [*SIGNAL_FILES, "static.json"])
def test_a_damaged_file_is_named(episode, recorded, judge, name, damage):
    """Whichever it is; a whole file of another episode is said at least."""
    content, other = ((folder / name).read_bytes() for folder in (episode, recorded[1]))
    (episode / name).write_bytes(BYTES[damage](content, other))
    verdict = judge(episode)
    if content == other and damage == "of another episode":
        assert verdict == "harmless"
    elif damage == "of another episode":
        assert name in verdict
    else:
        assert verdict.startswith("named: ")
        assert name in verdict


@pytest.mark.parametrize("name", [*SIGNAL_FILES, "static.json"])
def test_a_file_that_was_removed_is_named(episode, judge, name):
    """By itself, or by its signal."""
    (episode / name).unlink()
    assert judge(episode).startswith("named: ")
    assert name.removesuffix(".parquet") in judge(episode)


@pytest.mark.parametrize("damage", ["cut by 8 bytes", "cut to half", "emptied", "replaced by text", "zeroed"])
def test_damaged_meta_data_is_said(episode, judge, damage):
    """The recording itself does not depend on it."""
    file = episode / "meta.json"
    file.write_bytes(BYTES[damage](file.read_bytes(), b""))
    assert judge(episode).startswith("said: meta.json")


def without_notes(episode: Path) -> None:
    """As published recorders write it, which note nothing about their files."""
    meta = json.loads((episode / "meta.json").read_text())
    del meta[FILES]
    (episode / "meta.json").write_text(json.dumps(meta))


def rows(values: pa.Array) -> list:
    return values.to_pylist()


def changed(row: int, value: object) -> Callable[[list], list]:
    return lambda values: [*values[:row], value, *values[row + 1 :]]


HUGE = [1e30, *[0.0] * 6]
VALUES: dict[str, Callable[[list], list]] = {
    "ragged": changed(3, [0.0]),
    "one shorter": lambda values: [value[:6] for value in values],
    "null": changed(3, None),
    "null inside": changed(3, [None, *[0.0] * 6]),
    "nan": changed(3, [np.nan, *[0.0] * 6]),
    "text": lambda values: [str(value) for value in values],
    "texts": lambda values: [[str(number) for number in value] for value in values],
    "truth values": lambda values: [[True] * 6 for _ in values],
    "nested": lambda values: [[[number] for number in value] for value in values],
    "maps": lambda values: [{"x": value[0]} for value in values],
    "days": lambda values: [np.datetime64("2026-01-01", "D").item()] * len(values),
    "bytes": lambda values: [b"1234567"] * len(values),
    "huge once": changed(20, HUGE),
    "wrong by 31 twice": lambda values: changed(21, [v + 31 for v in values[21]])(
        changed(20, [v + 31 for v in values[20]])(values)
    ),
    "too large for float32": lambda values: [[1e300, *value[1:]] for value in values],
    "empty vectors": lambda values: [[]] * len(values),
    "no quaternion": changed(20, [0.0] * 7),
}


@pytest.mark.parametrize("damage", VALUES)
def test_values_that_are_none_are_named(episode, judge, damage):
    """Also where nothing was noted about the files, as in published recordings."""
    without_notes(episode)
    table = pq.read_table(episode / POSE)
    values = VALUES[damage](rows(table.column("value")))
    pq.write_table(pa.table({"timestamp": table.column("timestamp"), "value": values}), episode / POSE)
    verdict = judge(episode)
    assert verdict.startswith("named: ")
    assert keys.EE_POSE in verdict or "column" in verdict


STAMPS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "equal": lambda times: np.where(np.arange(FRAMES) == 5, times[4], times),
    "back": lambda times: np.where(np.arange(FRAMES) == 5, times[3], times),
    "reversed": lambda times: times[::-1],
    "all equal": lambda times: np.zeros_like(times),
    "milliseconds": lambda times: times // 10**6,
    "microseconds": lambda times: times // 10**3,
    "seconds": lambda times: times // NS,
    "years away": lambda times: np.where(np.arange(FRAMES) == FRAMES - 1, 2**62, times),
    "far before": lambda times: times - 2**62,
    "float seconds": lambda times: times / NS,
    "text": lambda times: times.astype(str),
    "unsigned and too large": lambda times: times.astype(np.uint64) + np.uint64(2**63),
}


@pytest.mark.parametrize("damage", STAMPS)
@pytest.mark.parametrize("name", [GRIP, INDEX])
def test_stamps_that_are_none_are_named(episode, judge, name, damage):
    """Of a vector and of a camera."""
    without_notes(episode)
    table = pq.read_table(episode / name)
    column = table.column_names[0]
    stamps = pa.array(STAMPS[damage](table.column(column).to_numpy()))
    pq.write_table(table.set_column(0, column, stamps), episode / name)
    assert judge(episode).startswith("named: ")


@pytest.mark.parametrize("names", [["time", "value"], ["timestamp", "values"], ["timestamp", "timestamp"]])
def test_renamed_columns_are_named(episode, judge, names):
    """The file, and the columns that it has."""
    without_notes(episode)
    pq.write_table(pq.read_table(episode / GRIP).rename_columns(names), episode / GRIP)
    verdict = judge(episode)
    assert verdict.startswith(f"named: {GRIP} has no")
    assert str(names) in verdict


@pytest.mark.parametrize("kind", [pa.float32(), pa.int8(), pa.bool_()])
def test_other_types_of_numbers_are_read(episode, judge, kind):
    """A gripper that is only open or closed may be noted as whole numbers or truth values."""
    table = pq.read_table(episode / GRIP)
    closed = pa.array([float(value > 0.5) for value in rows(table.column("value"))])
    pq.write_table(table.set_column(1, "value", closed.cast(kind)), episode / GRIP)
    signal = Episode(episode)[keys.GRIP]
    signal.check()
    assert sample_vectors(Episode(episode), [keys.GRIP], signal.times_ns)[keys.GRIP].astype(float).tolist() == rows(
        closed
    )


@pytest.mark.parametrize("text", ["[]", '"x"', '{"task": 3}', '{"task": ["a"]}', '{"task": null}', "{}}", "NaN"])
def test_statics_of_another_kind_are_named(episode, judge, text):
    """A task is a text."""
    without_notes(episode)
    (episode / "static.json").write_text(text)
    verdict = judge(episode)
    assert verdict.startswith("named: ")
    assert "static" in verdict


def test_a_sound_recording_is_baked(episode, judge):
    """With and without notes about its files."""
    assert judge(episode) == "harmless"
    without_notes(episode)
    assert judge(episode) == "harmless"
