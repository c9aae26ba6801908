"""Whatever happens to a file of a baked dataset: it is named before training, appending or statistics begin."""

import json
import re
import shutil

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import positronic
from positronic import keys
from positronic.bake import whole as bake_whole
from positronic.bake.convert import BakeOptions, bake
from positronic.bake.reader import open_baked
from positronic.codecs.build import build
from positronic.errors import PositronicError
from positronic.raw.dataset import open_dataset
from positronic.raw.writer import DatasetWriter
from positronic.stages import stats as stats_stage

VERSIONS = {"commit": None, "dirty": None, "versions": {}}
FORMATS = ["v3.0", "v2.1"]
NS, FPS, SIDE = 10**9, 15, 32
LENGTHS = (4, 6, 5, 3)  # the last episode is to be appended
NORM_STATS = "assets/pi05_positronic_lowmem/lerobot/norm_stats.json"


def record(root, shift=0.0):
    writer = DatasetWriter(root)
    for number, length in enumerate(LENGTHS):
        with writer.new_episode() as episode:
            for k in range(length + 1):
                now, x = k * NS // FPS, 0.4 + shift + 0.1 * number + 0.001 * k
                for name in (keys.EE_POSE, keys.COMMAND_POSE):
                    episode.append(name, np.array([x, 0.1, 0.3, 1, 0, 0, 0]), now)
                for name in (keys.GRIP, keys.TARGET_GRIP):
                    episode.append(name, k / length, now)
                for camera in (keys.IMAGE_WRIST, keys.IMAGE_EXTERIOR):
                    level = int(1000 * shift) + 40 * number + 5 * k
                    episode.append(camera, np.full((SIDE, SIDE, 3), level, np.uint8), now)
            episode.set_static(keys.TASK, f"task {number % 2}")
    return open_dataset(root)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """``bake_into(folder, format)`` bakes two episodes and appends a third, with openpi's own file; ``append`` adds the
    last; ``statistics`` runs the stage."""
    from positronic.vendors.registry import companions

    config = positronic.compose(
        ["stage=convert", "vendor=openpi", "dataset.path=unused", "modality.image_size=[32,32]"]
    )
    recipe, stats = build(config.codec, config.modality), positronic.compose(["stage=stats", "input_path=unused"])
    place = tmp_path_factory.mktemp("damage")
    raw, other = record(place / "raw"), record(place / "other", shift=0.05)

    class World:
        def bake_into(self, folder, dataset_format, dataset=raw):
            self._bake(dataset[:2], folder, dataset_format, append=False)
            self._bake(dataset[2:3], folder, dataset_format)
            return folder

        def append(self, folder, dataset_format):
            self._bake(raw[3:], folder, dataset_format)

        def _bake(self, dataset, folder, dataset_format, append=True):
            options = BakeOptions(vendor="openpi", dataset_format=dataset_format, num_workers=1, append=append)
            bake(dataset, recipe, folder, options, VERSIONS, companions=companions("openpi", recipe, dataset_format))

        def statistics(self, folder):
            stats.input_path = str(folder)
            stats_stage.run(stats)

    world = World()
    world.whole = {name: world.bake_into(place / name, name) for name in FORMATS}
    world.other = {name: world.bake_into(place / f"other-{name}", name, other) for name in FORMATS}
    return world


def files_of(folder):
    """One of each kind: of numbered files the second, so that there is one before it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = str(path.relative_to(folder))
            kind = re.sub(r"\d{3,}", "N", name)
            found[kind] = name if found.get(kind, "").count("1") < 1 else found[kind]
    return sorted(found.values())


def flip(share):
    def damage(path, other):
        content = bytearray(path.read_bytes())
        content[int(share * (len(content) - 1))] ^= 0x10
        path.write_bytes(content)

    return damage


BYTES = {
    "cut by 8 bytes": lambda path, other: path.write_bytes(path.read_bytes()[:-8]),
    "cut in half": lambda path, other: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "emptied": lambda path, other: path.write_bytes(b""),
    "removed": lambda path, other: path.unlink(),
    "8 bytes more": lambda path, other: path.write_bytes(path.read_bytes() + b"\0\0\0\x08free"),
    "without its last byte": lambda path, other: path.write_bytes(path.read_bytes()[:-1]),
    "another dataset's": lambda path, other: shutil.copyfile(other, path),
    **{f"a bit flipped at {share:.0%}": flip(share) for share in (0.0, 0.03, 0.2, 0.5, 0.8, 0.97, 1.0)},
}


def assert_refused(act, name, *also):
    with pytest.raises(PositronicError) as caught:
        act()
    said = str(caught.value)
    assert name in said, said
    assert all(word in said for word in also), said
    assert "\n" not in said, said


@pytest.mark.parametrize("kind", BYTES)
@pytest.mark.parametrize("dataset_format", FORMATS)
def test_a_file_with_other_bytes_is_named(world, tmp_path, dataset_format, kind):
    """By training, appending and statistics alike; what statistics write anew is the bake's again."""
    whole, other = world.whole[dataset_format], world.other[dataset_format]
    for name in files_of(whole):
        same = (whole / name).read_bytes() == (other / name).read_bytes()
        if kind.startswith("another") and same:
            continue  # info.json, tasks: equal in both
        folder = shutil.copytree(whole, tmp_path / name.replace("/", "-"))
        BYTES[kind](folder / name, other / name)
        if dataset_format == keys.FORMAT_V30:
            assert_refused(lambda folder=folder: open_baked(folder, every_byte=True), name)
        assert_refused(lambda folder=folder: world.append(folder, dataset_format), name)
        if name in (keys.STATS_FILE, NORM_STATS):
            world.statistics(folder)
            assert (folder / name).read_bytes() == (whole / name).read_bytes()
            world.append(folder, dataset_format)
        else:
            assert_refused(lambda folder=folder: world.statistics(folder), name)
        shutil.rmtree(folder)


@pytest.mark.parametrize("dataset_format", FORMATS)
def test_of_very_large_videos_bytes_are_left_to_statistics(world, tmp_path, dataset_format, monkeypatch, caplog):
    """Training and appending say so, still read every other file, and keep what the bake wrote down of the videos."""
    monkeypatch.setattr(bake_whole, "MAX_READ_BYTES", 0)
    folder = shutil.copytree(world.whole[dataset_format], tmp_path / "copy")
    video = next(name for name in files_of(folder) if name.endswith(".mp4"))
    flip(0.5)(folder / video, None)
    if dataset_format == keys.FORMAT_V30:
        open_baked(folder, every_byte=True)
    world.append(folder, dataset_format)
    assert "their bytes were not compared" in caplog.text
    assert_refused(lambda: world.statistics(folder), video)
    rows = next(name for name in files_of(folder) if name.startswith("data/"))
    flip(0.5)(folder / rows, None)
    assert_refused(lambda: world.append(folder, dataset_format), rows)


@pytest.mark.parametrize("dataset_format", FORMATS)
def test_a_whole_dataset_is_taken_by_all(world, tmp_path, dataset_format):
    """The control: nothing is refused, and nothing of it changes but by the append."""
    folder = shutil.copytree(world.whole[dataset_format], tmp_path / "copy")
    world.statistics(folder)
    before, whole = contents(folder), contents(world.whole[dataset_format])
    assert before == whole
    world.append(folder, dataset_format)
    world.statistics(folder)
    if dataset_format == keys.FORMAT_V30:
        assert len(open_baked(folder, every_byte=True)) == sum(LENGTHS)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def older(folder):
    """As a version before the list of files wrote it: what is redundant in the files is all that there is."""
    (folder / keys.FILE_LIST).unlink()
    path = folder / keys.MANIFEST_FILE
    path.write_text(path.read_text().replace(',\n  "file_list": true', ""))
    return folder


@pytest.mark.parametrize("dataset_format", FORMATS)
def test_a_dataset_of_an_older_version_is_taken_and_gets_a_list_with_the_next_append(world, tmp_path, dataset_format):
    """Nothing that was baked has to be baked again."""
    folder = older(shutil.copytree(world.whole[dataset_format], tmp_path / "copy"))
    world.statistics(folder)
    if dataset_format == keys.FORMAT_V30:
        open_baked(folder, every_byte=True)
    world.append(folder, dataset_format)
    assert (folder / keys.FILE_LIST).is_file()


@pytest.mark.parametrize("kind", ["cut by 8 bytes", "cut in half", "emptied", "removed"])
@pytest.mark.parametrize("dataset_format", FORMATS)
def test_a_cut_file_of_an_older_version_is_named(world, tmp_path, dataset_format, kind):
    """Without a list of the files, by what the others say."""
    for name in files_of(world.whole[dataset_format]):
        if name == keys.FILE_LIST or name == NORM_STATS:
            continue  # an older version has no list; its append writes the vendor's file anew
        folder = older(shutil.copytree(world.whole[dataset_format], tmp_path / name.replace("/", "-")))
        BYTES[kind](folder / name, None)
        assert_refused(lambda folder=folder: world.append(folder, dataset_format), name)
        if name not in (keys.STATS_FILE, "meta/bake_report.json"):
            assert_refused(lambda folder=folder: world.statistics(folder), name)
        if dataset_format == keys.FORMAT_V30 and name not in ("meta/bake_report.json", HISTOGRAMS):
            assert_refused(lambda folder=folder: open_baked(folder), name)
        shutil.rmtree(folder)


HISTOGRAMS = "meta/positronic_histograms.parquet"


def change(column, row, value):
    """Writes ``value`` into a column of a parquet file."""

    def damage(path):
        table = pq.read_table(path)
        values = table[column].to_pylist()
        values[row] = value(values[row])
        array = pa.array(values, table.schema.field(column).type)
        table = table.set_column(table.column_names.index(column), table.schema.field(column), array)
        pq.write_table(table, path)

    return damage


def rows(take):
    def damage(path):
        table = pq.read_table(path)
        pq.write_table(table.take(list(take(len(table)))), path)

    return damage


def in_json(*place, value):
    def damage(path):
        content = json.loads(path.read_text())
        inner = content
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = value(inner[place[-1]])
        path.write_text(json.dumps(content))

    return damage


def in_line(number, name, value):
    def damage(path):
        lines = path.read_text().splitlines()
        content = json.loads(lines[number])
        lines[number] = json.dumps(content | {name: value(content[name])})
        path.write_text("".join(f"{line}\n" for line in lines))

    return damage


LEFT = "videos/observation.images.left"
V30_DATA, V30_TABLE = "data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet"
V21_DATA = "data/chunk-000/episode_000001.parquet"
MORE, LESS = (lambda value: value + 1), (lambda value: value - 1)
MEANINGS = [
    ("v3.0", V30_DATA, rows(lambda n: range(n)[::-1]), "episode 0: index is 9"),
    ("v3.0", V30_DATA, rows(lambda n: range(n - 1)), "episode 1: the file holds 9 rows, expected 10"),
    ("v3.0", V30_DATA, rows(lambda n: [*range(n), 0]), "episode 1: the file holds 11 rows"),
    ("v3.0", V30_DATA, change("frame_index", 5, MORE), "episode 1: frame_index is 2 in row 5"),
    ("v3.0", V30_DATA, change("timestamp", 5, MORE), "episode 1: timestamp is 1.06"),
    ("v3.0", V30_DATA, change("episode_index", 3, MORE), "episode 0: episode_index is 1"),
    ("v3.0", V30_DATA, change("task_index", 4, LESS), "episode 1: task_index is 0"),
    ("v3.0", V30_DATA, change("task_index", 4, lambda _: None), "'task_index' has rows without a value"),
    ("v3.0", V30_TABLE, change("length", 1, lambda _: 0), "episode 1: length is 0"),
    ("v3.0", V30_TABLE, change("length", 1, MORE), "episode 1: dataset_to_index is 10, expected 11"),
    ("v3.0", V30_TABLE, change("dataset_from_index", 1, LESS), "episode 1: dataset_from_index is 3, expected 4"),
    ("v3.0", V30_TABLE, change("episode_index", 0, MORE), "episode 0: episode_index is 1"),
    ("v3.0", V30_TABLE, change("tasks", 1, lambda _: ["task 0"]), "episode 1: its task is 'task 0'"),
    ("v3.0", V30_TABLE, change("tasks", 1, lambda _: []), "episode 1: tasks is []"),
    ("v3.0", V30_TABLE, rows(lambda n: [1, 0]), "episode 0: episode_index is 1"),
    (
        "v3.0",
        V30_TABLE,
        change(f"{LEFT}/from_timestamp", 1, lambda value: value - 1 / FPS),
        f"episode 1: {LEFT}/from_timestamp is",
    ),
    (
        "v3.0",
        V30_TABLE,
        change(f"{LEFT}/to_timestamp", 0, lambda value: value + 1 / FPS),
        f"episode 0: {LEFT}/to_timestamp is",
    ),
    (
        "v3.0",
        V30_TABLE,
        change("videos/observation.images.left/file_index", 1, lambda _: 7),
        "episode 1: videos/observation.images.left/from",
    ),
    ("v3.0", V30_TABLE, change("data/file_index", 1, MORE), "data/chunk-000/file-000.parquet, episode 0: the file"),
    ("v3.0", "meta/tasks.parquet", change("task", 0, lambda _: "another"), "its tasks are {0: 'another'"),
    ("v2.1", V21_DATA, rows(lambda n: range(n)[::-1]), "episode 1: index is 9"),
    ("v2.1", V21_DATA, rows(lambda n: range(n - 2)), "episode 1: the file holds 4 rows, expected 6"),
    ("v2.1", V21_DATA, change("episode_index", 0, LESS), "episode 1: episode_index is 0"),
    ("v2.1", "meta/episodes.jsonl", in_line(1, "length", lambda _: 0), "episode 1: length is 0"),
    ("v2.1", "meta/episodes.jsonl", in_line(1, "length", MORE), "episode 1: its length is 7, that of"),
    ("v2.1", "meta/episodes.jsonl", in_line(1, "episode_index", MORE), "episode 1: line 2 is about episode 2"),
    ("v2.1", "meta/episodes.jsonl", in_line(1, "tasks", lambda _: ["task 0"]), "episode 1: its task is 'task 0'"),
    ("v2.1", "meta/episodes_stats.jsonl", in_line(1, "episode_index", MORE), "episode 1: line 2"),
    ("v2.1", "meta/tasks.jsonl", in_line(1, "task", lambda _: "another"), "its tasks are {0: 'task 0', 1: 'another'}"),
]
for each in FORMATS:
    MEANINGS += [
        (each, keys.INFO_FILE, in_json("fps", value=MORE), "fps is 16, but 15"),
        (each, keys.INFO_FILE, in_json("total_frames", value=MORE), "total_frames is 16, but 15"),
        (each, keys.INFO_FILE, in_json("features", "action", "shape", value=lambda _: [7]), "features.action is"),
        (each, keys.INFO_FILE, in_json("features", value=lambda found: []), "cannot be read"),
        (each, keys.MANIFEST_FILE, in_json("frames", value=MORE), "meta/positronic.json 3 of 16"),
        (each, keys.MANIFEST_FILE, in_json("digest", value=lambda _: "0"), "than meta/positronic.json was written for"),
        (each, keys.EPISODES_SIDECAR, change("length", 1, MORE), "3 episodes of 16 frames"),
        (each, keys.EPISODES_SIDECAR, change("uid", 1, lambda _: "another"), "lists other episodes"),
        (each, HISTOGRAMS, rows(lambda n: [0, 2, 1]), "episode 1: 'observation.images.left' counts other pixels"),
        (each, HISTOGRAMS, rows(lambda n: [0, 1]), "2 rows, expected one for each of 3 episodes"),
    ]


@pytest.mark.parametrize(("dataset_format", "name", "damage", "says"), MEANINGS)
def test_a_record_that_others_contradict_is_named_with_its_episode(world, tmp_path, dataset_format, name, damage, says):
    """In a dataset that has no list of its files: a readable file that says something else."""
    folder = older(shutil.copytree(world.whole[dataset_format], tmp_path / "copy"))
    damage(folder / name)
    assert_refused(lambda folder=folder: world.append(folder, dataset_format), says, folder.name)
    assert_refused(lambda folder=folder: world.statistics(folder), says)
    if dataset_format == keys.FORMAT_V30 and name != HISTOGRAMS:
        assert_refused(lambda folder=folder: open_baked(folder), says)


def remux(path, keep, stretch=1):
    """The video's packets from ``keep``, ``stretch`` times as long, in a file that is whole."""
    whole = path.rename(path.with_suffix(".whole"))
    with av.open(str(whole)) as source, av.open(str(path), "w", format="mp4") as out:
        copy = out.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in [packet for packet in source.demux(video=0) if packet.dts is not None][keep]:
            packet.pts, packet.dts = packet.pts * stretch, packet.dts * stretch
            packet.duration, packet.stream = packet.duration * stretch, copy
            out.mux(packet)
    whole.unlink()


@pytest.mark.parametrize(
    ("keep", "stretch", "says"),
    [
        (slice(None, -3), 1, "episode 1: the file holds {less} frames, but its episodes have {frames}"),
        (slice(None), 2, "{frames} frames last {twice:g} s, expected {seconds:g} s"),
        (slice(2, None), 1, "frames"),
    ],
)
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("dataset_format", FORMATS)
def test_a_video_that_shows_other_frames_is_named(world, tmp_path, dataset_format, old, keep, stretch, says):
    """Whole as a file, with frames missing or at another rate: with a list of the files or without."""
    folder = shutil.copytree(world.whole[dataset_format], tmp_path / "copy")
    if old:
        older(folder)
    name, frames = {
        "v3.0": (f"{LEFT}/chunk-000/file-000.mp4", sum(LENGTHS[:2])),
        "v2.1": ("videos/chunk-000/observation.images.left/episode_000001.mp4", LENGTHS[1]),
    }[dataset_format]
    remux(folder / name, keep, stretch)
    says = says.format(less=frames - 3, frames=frames, twice=2 * frames / FPS, seconds=frames / FPS)
    assert_refused(lambda: world.append(folder, dataset_format), name, says)
    assert_refused(lambda: world.statistics(folder), name, says)
    if dataset_format == keys.FORMAT_V30:
        assert_refused(lambda: open_baked(folder), name, says)


def test_rows_of_no_episode_are_named(world, tmp_path):
    """A file of another dataset beside the others would be read with them."""
    folder = shutil.copytree(world.whole["v3.0"], tmp_path / "copy")
    shutil.copyfile(world.other["v3.0"] / V30_DATA, folder / "data/chunk-000/file-002.parquet")
    for act in (lambda: open_baked(folder), lambda: world.append(folder, "v3.0"), lambda: world.statistics(folder)):
        assert_refused(act, "data/chunk-000/file-002.parquet")


def test_a_last_line_without_an_end_is_named(world, tmp_path):
    """An appended line would run into it."""
    folder = older(shutil.copytree(world.whole["v2.1"], tmp_path / "copy"))
    path = folder / "meta/episodes.jsonl"
    path.write_text(path.read_text().removesuffix("\n"))
    assert_refused(lambda: world.append(folder, "v2.1"), "meta/episodes.jsonl", "line 3 has no end")
