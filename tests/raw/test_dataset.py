import pickle
import sys

import pytest

from positronic import keys
from positronic.errors import PositronicError
from positronic.raw.config import DatasetConfig
from positronic.raw.dataset import Dataset, open_dataset, open_from_config

NOWHERE = "nothing-is-here"


def stub(root, episode_id, finished=True):
    """An episode whose signal files point nowhere, so that opening one of them would fail."""
    path = root / f"{episode_id // 1000 * 1000:012d}" / f"{episode_id:012d}"
    path.mkdir(parents=True)
    (path / "static.json").write_text('{"task": "stack"}')
    for name in ("grip.parquet", "image.wrist.mp4", "image.wrist.frames.parquet"):
        (path / name).symlink_to(NOWHERE)
    if not finished:
        (path / keys.UNFINISHED).touch()


def ids(dataset):
    return [episode.id for episode in dataset]


@pytest.fixture
def opened():
    """Paths that Python opens; an audit hook cannot be removed, so it is only told to stop."""
    paths, listening = [], [True]
    sys.addaudithook(lambda event, args: paths.append(str(args[0])) if event == "open" and listening else None)
    yield paths
    listening.clear()


def test_opening_a_thousand_episodes_touches_none_of_their_files(tmp_path, opened):
    """Neither opening, nor going through all episodes, nor naming their signals opens a file."""
    for episode_id in range(1000):
        stub(tmp_path, episode_id)
    opened.clear()
    dataset = open_dataset(tmp_path)
    assert len(dataset) == 1000
    assert all(list(episode.signals) == [keys.GRIP, keys.IMAGE_WRIST] for episode in dataset)
    assert [path for path in opened if str(tmp_path) in path] == []


def test_statics_do_not_touch_signals(tmp_path):
    """The task of every episode can be listed without opening a signal."""
    stub(tmp_path, 7)
    assert open_dataset(tmp_path)[0].statics == {keys.TASK: "stack"}


def test_order_and_gaps(tmp_path):
    """Positions follow ids over all blocks; gaps in numbering are normal."""
    for episode_id in (2001, 5, 1000, 999):
        stub(tmp_path, episode_id)
    assert ids(open_dataset(tmp_path)) == [5, 999, 1000, 2001]


def test_unfinished_episodes_are_skipped(tmp_path):
    """They are being recorded, or their recording crashed."""
    stub(tmp_path, 0, finished=False)
    stub(tmp_path, 1)
    assert ids(open_dataset(tmp_path)) == [1]


def test_other_files_and_folders_are_ignored(tmp_path):
    """Only folders named with twelve digits are blocks and episodes."""
    stub(tmp_path, 0)
    (tmp_path / "run_metadata_20260101_000000.yaml").touch()
    (tmp_path / "000000000000" / "notes").mkdir()
    (tmp_path / "000000000000" / "000000000001.bak").mkdir()
    (tmp_path / "000000000000" / "000000000002").touch()
    assert ids(open_dataset(tmp_path)) == [0]


def test_slices_and_negative_positions(tmp_path):
    """A dataset is a sequence, and a slice of it is a dataset."""
    for episode_id in range(4):
        stub(tmp_path, episode_id)
    dataset = open_dataset(tmp_path)
    assert dataset[-1].id == 3
    assert isinstance(dataset[1:3], Dataset)
    assert ids(dataset[1:3]) == [1, 2]
    with pytest.raises(IndexError):
        dataset[4]


def test_a_dataset_goes_to_worker_processes(record, tmp_path):
    """It pickles, and so do its episodes after they were read."""
    record()
    dataset = open_dataset(tmp_path / "raw", aliases={"gripper": keys.GRIP}, gripper_open=1.0)
    episode = dataset[0]
    expected = episode["gripper"].values.tolist()
    assert pickle.loads(pickle.dumps(dataset))[0]["gripper"].values.tolist() == expected
    assert pickle.loads(pickle.dumps(episode))["gripper"].values.tolist() == expected


def test_names(tmp_path):
    """A dataset is called as its folder, unless it is given a name."""
    stub(tmp_path / "demo", 0)
    assert open_dataset(tmp_path / "demo").name == "demo"
    assert open_dataset(tmp_path / "demo", name="other").name == "other"


def test_from_config(record, tmp_path):
    """Every field of the dataset group is heeded."""
    record()
    path = str(tmp_path)
    config = DatasetConfig("mine", path, layout="local_all", gripper_open=1.0, aliases={"gripper": keys.GRIP})
    dataset = open_from_config(config)
    assert (dataset.name, dataset.root) == ("mine", tmp_path)
    assert dataset[0]["gripper"].at(0) == 1.0


def test_a_tree_of_datasets(tmp_path):
    """Own episodes first, then the folders below by name, also below a dataset."""
    for folder, episode_id in (("", 9), ("b", 0), ("a", 3), ("a/deeper", 1), ("c/only/here", 2)):
        stub(tmp_path / folder, episode_id)
    assert ids(open_dataset(tmp_path, layout="local_all")) == [9, 3, 1, 0, 2]


def test_a_tree_with_a_link_to_itself(tmp_path):
    """A link to a folder above does not make an endless tree."""
    stub(tmp_path / "a", 0)
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    assert ids(open_dataset(tmp_path, layout="local_all")) == [0]


def test_edits_belong_to_their_own_root(record, tmp_path):
    """In a tree, each root's edit log is applied to its own episodes."""
    dropped, kept = record(root=tmp_path / "a"), record(root=tmp_path / "b")
    lines = [f'{{"op": "drop", "v": 1, "ep": "{episode.uid}"}}\n' for episode in (dropped, kept)]
    (tmp_path / "a" / "edits.jsonl").write_text("".join(lines))
    assert [episode.path for episode in open_dataset(tmp_path, layout="local_all")] == [kept.path]


def refusal(path, **options):
    with pytest.raises(PositronicError) as caught:
        open_dataset(path, **options)
    return str(caught.value)


def test_a_path_that_does_not_exist(tmp_path):
    """The message says how to record a dataset or to name another."""
    message = refusal(tmp_path / NOWHERE)
    assert f"Raw dataset {tmp_path / NOWHERE} does not exist." in message
    assert "python run.py stage=collect" in message
    assert "dataset.path=" in message


def test_a_path_that_is_a_file(tmp_path):
    """A folder is expected."""
    (tmp_path / "x").touch()
    assert "is a file, not a folder of episodes" in refusal(tmp_path / "x")


def test_a_baked_dataset_is_not_a_raw_one(tmp_path):
    """It is told what one does with it."""
    (tmp_path / "meta").mkdir()
    (tmp_path / keys.MANIFEST_FILE).write_text("{}")
    assert f"stage=train input_path={tmp_path}" in refusal(tmp_path)


def test_an_empty_folder(tmp_path):
    """The same advice as without a folder."""
    message = refusal(tmp_path)
    assert f"{tmp_path} has no finished episode. " in message
    assert "stage=collect" in message


def test_only_unfinished_and_dropped_episodes(record, tmp_path):
    """They are counted, so that nobody thinks them lost."""
    episode = record()
    stub(tmp_path / "raw", 5, finished=False)
    (tmp_path / "raw" / "edits.jsonl").write_text(f'{{"op": "drop", "v": 1, "ep": "{episode.uid}"}}\n')
    assert "(1 unfinished, 1 dropped by edits)" in refusal(tmp_path / "raw")


def test_a_tree_opened_as_one_root(tmp_path):
    """The layout that would read it is named."""
    stub(tmp_path / "a" / "b", 0)
    assert f"but {tmp_path / 'a' / 'b'} has: read the tree with dataset.layout=local_all" in refusal(tmp_path)


def test_a_folder_inside_a_dataset(tmp_path):
    """A block or an episode is not a dataset; its root is named."""
    stub(tmp_path, 0)
    assert f"dataset.path={tmp_path}" in refusal(tmp_path / "000000000000")


def test_an_unknown_layout(tmp_path):
    """The known ones are listed, the nearest is proposed."""
    assert "expected one of local, local_all. Did you mean 'local_all'?" in refusal(tmp_path, layout="locall_al")
