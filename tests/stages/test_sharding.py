"""stage=convert shards=...: the plain commands of a bake in parts, and the jobs that run them."""

import json
import shutil
from pathlib import Path

import pytest

import positronic
from positronic.bake.shards import shards_path
from positronic.errors import PositronicError
from positronic.stages.convert import run
from positronic.stages.sharding import tasks_of
from positronic.utils.command_line import in_python

PUBLISHED = Path(__file__).parents[1] / "data" / "raw_v1"


def typed(tmp_path, *more):
    place = [f"dataset.path={PUBLISHED}", f"output_dir={tmp_path / 'baked'}"]
    place = [each for each in place if each.partition("=")[0] not in {extra.partition("=")[0] for extra in more}]
    small = ["vendor=gr00t", "dataset_format=v2.1", "modality.image_size=[32,32]", "num_workers=1", "fps=5"]
    return ["stage=convert", *place, *small, *more]


def type_in(overrides):
    config = positronic.compose(overrides)
    with in_python(config.composed[0]):
        return run(config)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_printed_commands_lead_from_a_shard_to_the_dataset(tmp_path, capsys):
    """Shards in any order, then the join, whose dataset is that of the plain command; nothing else is left."""
    type_in(typed(tmp_path, f"output_dir={tmp_path / 'plain'}"))
    capsys.readouterr()
    following = typed(tmp_path, "shards=2", "shard=2")
    for shown in ("1 of 2", "2 of 2", None):
        type_in(following)
        said = capsys.readouterr().out.splitlines()
        assert shown is None or said[-2] == f"  shards:  {shown} are complete"
        if shown is not None:
            following = json.loads(said[-1].partition("compose(")[2].removesuffix("))"))
    assert contents(tmp_path / "baked") == contents(tmp_path / "plain")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["baked", "plain"]


def test_the_jobs_of_a_bake_are_these_commands(tmp_path):
    """The join comes after all; what is complete is not submitted again."""
    whole = typed(tmp_path, "shards=3")
    tasks = tasks_of(positronic.compose(whole), whole)
    assert [task.name for task in tasks] == ["shard_1", "shard_2", "shard_3", "join"]
    assert [task.arguments[-1] for task in tasks] == ["shard=1", "shard=2", "shard=3", "join=true"]
    assert tasks[-1].after == ("shard_1", "shard_2", "shard_3")
    type_in(list(tasks[1].arguments))
    again = tasks_of(positronic.compose(whole), whole)
    assert [task.name for task in again] == ["shard_1", "shard_3", "join"]
    assert again[-1].after == ("shard_1", "shard_3")
    for task in again:
        type_in(list(task.arguments))
    with pytest.raises(PositronicError, match="exists already"):
        tasks_of(positronic.compose(whole), whole)


@pytest.mark.parametrize("more", [[], ["shards=3", "shard=2"], ["shards=3", "join=true"]], ids=str)
def test_other_bakes_are_one_job(tmp_path, more):
    """In one piece, or already one of the jobs."""
    assert tasks_of(positronic.compose(typed(tmp_path, *more)), []) == []


def test_a_shard_of_another_bake_is_refused_before_jobs_are_submitted(tmp_path):
    """Each of them would refuse it."""
    type_in(typed(tmp_path, "shards=2", "shard=1"))
    other = typed(tmp_path, "shards=2", "task=another")
    with pytest.raises(PositronicError, match=r"Shard 1 of 2 .* is of another bake"):
        tasks_of(positronic.compose(other), other)


def test_shards_alone_say_what_to_type(tmp_path):
    """Neither a shard nor the join: the commands are named."""
    with pytest.raises(PositronicError, match=r"\+cluster=slurm(.|\n)*shard=1(.|\n)*shard=2(.|\n)*join=true"):
        type_in(typed(tmp_path, "shards=2"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["output_dir=s3://b/x", "shards=2", "shard=1"], "output_dir=s3://b/x: .*shards_dir=<folder>"),
        (["shards=2", "shard=1", "shards_dir=s3://b/x"], "shards_dir=s3://b/x: .*not in a bucket"),
    ],
)
def test_shards_are_not_put_into_a_bucket(tmp_path, more, message):
    """Each joined dataset may be; where shards go then is asked for."""
    with pytest.raises(PositronicError, match=message):
        type_in(typed(tmp_path, *more))


def test_shards_may_lie_elsewhere(tmp_path):
    """What else is in that folder stays."""
    place = tmp_path / "scratch"
    place.mkdir()
    (place / "mine").touch()
    for which in ("shard=1", "shard=2"):
        type_in(typed(tmp_path, "shards=2", which, f"shards_dir={place}"))
    assert not shards_path(tmp_path / "baked").exists()
    shutil.copytree(place, tmp_path / "moved")  # to another file system, say
    type_in(typed(tmp_path, "shards=2", "join=true", f"shards_dir={tmp_path / 'moved'}"))
    assert [path.name for path in (tmp_path / "moved").iterdir()] == ["mine"]
