"""stage=collect from a typed config to a dataset."""

import json
import re
import signal
from dataclasses import replace

import pytest

import positronic
from positronic import keys
from positronic.errors import PositronicError
from positronic.hardware.config import HardwareConfig
from positronic.raw.dataset import open_dataset
from positronic.raw.layout import episode_paths
from positronic.raw.writer import DatasetWriter
from positronic.rollout.collection import COLLECTION_FILE
from positronic.stages.collect import Collect, run


def test_it_records_demonstrations_in_parallel_and_says_what_is_next(sim_config, tmp_path, capsys):
    """Two processes, two finished episodes with pictures of the size asked for, and a summary with a command."""
    place = str(tmp_path / "demo")
    result = run(Collect(hardware=sim_config, output_dir=place, num_episodes=2, num_workers=2))
    dataset = open_dataset(tmp_path / "demo")
    assert (result.path, result.episodes, result.recorded) == (place, 2, 2)
    assert result.frames == sum(len(episode[keys.GRIP].times_ns) for episode in dataset)
    assert [episode.id for episode in dataset] == [0, 1]
    assert [episode.statics[keys.EVAL_SEED] for episode in dataset] == [100000, 100001]
    camera = dataset[0][keys.IMAGE_EXTERIOR]
    assert [camera.height, camera.width] == sim_config.image_size
    said = capsys.readouterr().out
    assert "2 demonstrations" in said
    assert f"python run.py stage=convert dataset=local dataset.path={tmp_path}/demo" in said


SMALL = ["hardware.image_size=[32,48]", "num_episodes=4", "num_workers=2"]
RESULT = "positronic.utils.pool:WorkerPool._collect"
START = "positronic.utils.pool:_start"


def collected(root):
    """``{id: fingerprint}`` and what is beside the episodes."""
    episodes = {episode.id: episode.fingerprint() for episode in open_dataset(root)}
    assert len(list(episode_paths(root))) == len(episodes)
    return episodes, json.loads((root / COLLECTION_FILE).read_text())


@pytest.fixture
def whole(tmp_path):
    """What a run of SMALL collects that nobody interrupts."""
    run(positronic.compose(["stage=collect", *SMALL, f"output_dir={tmp_path / 'whole'}"]))
    return collected(tmp_path / "whole")


@pytest.mark.parametrize("numbers", [[signal.SIGINT], [signal.SIGUSR2, signal.SIGTERM]], ids=str)
def test_signals_to_the_whole_group_and_resume_give_the_same_dataset(press, tmp_path, whole, capsys, numbers):
    """Finished episodes stay, half ones go, the message says what to type; ids and contents are those of one run."""
    typed = ["stage=collect", *SMALL, f"output_dir={tmp_path / 'cut'}"]
    done = press(RESULT, 2, numbers, *typed)
    assert (done.returncode, done.stderr) == (130, "Interrupted: stage=collect.\n")
    (count,) = re.findall(r"(\d) finished episodes are in .*To continue, type:\n  python run.py ", done.stdout, re.S)
    assert 1 <= len(collected(tmp_path / "cut")[0]) == int(count) < 4
    run(positronic.compose([*typed, "resume=true"]))
    assert f"{count} demonstrations were there before" in capsys.readouterr().out
    assert collected(tmp_path / "cut") == whole


def test_a_killed_run_takes_its_processes_with_it_and_is_resumed(kill, tmp_path, whole):
    """SIGKILL leaves half episodes behind; the next run removes them and records them again."""
    typed = ["stage=collect", *SMALL, f"output_dir={tmp_path / 'cut'}"]
    assert kill(RESULT, 2, *typed) >= 2
    run(positronic.compose([*typed, "resume=true"]))
    assert collected(tmp_path / "cut") == whole


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_while_processes_start_leaves_nothing(press, tmp_path, number):
    """No episode was finished: no folder is left, and the same command starts again."""
    done = press(START, 1, [number], "stage=collect", *SMALL, f"output_dir={tmp_path / 'demo'}")
    assert (done.returncode, done.stderr) == (130, "Interrupted: stage=collect.\n")
    assert "No episode was finished" in done.stdout
    assert not (tmp_path / "demo").exists()


def test_half_an_episode_that_a_second_signal_left_is_removed(sim_config, tmp_path, monkeypatch, capsys):
    """The same command would be refused, were an episode there."""

    def record(config, collection, done):
        half = tmp_path / "demo" / "000000000000" / "000000000000"
        half.mkdir(parents=True)
        (half / keys.UNFINISHED).touch()
        raise KeyboardInterrupt

    config = Collect(hardware=sim_config, output_dir=str(tmp_path / "demo"), num_episodes=1, num_workers=1)
    with monkeypatch.context() as patched:
        patched.setattr("positronic.stages.collect._record", record)
        with pytest.raises(KeyboardInterrupt):
            run(config)
    assert "The same command starts again" in capsys.readouterr().out
    run(config)
    assert list(collected(tmp_path / "demo")[0]) == [0]


@pytest.fixture
def two(sim_config, tmp_path):
    """A config whose two demonstrations are in ``tmp_path / "demo"``."""
    config = Collect(hardware=sim_config, output_dir=str(tmp_path / "demo"), num_episodes=2, num_workers=1)
    run(config)
    return replace(config, resume=True)


def test_resume_with_more_episodes_adds_them(two, tmp_path):
    """The first ones stay as they are."""
    before, _ = collected(tmp_path / "demo")
    run(replace(two, num_episodes=3))
    after, record = collected(tmp_path / "demo")
    assert list(after) == [0, 1, 2]
    assert before.items() <= after.items()
    assert record["num_episodes"] == 3


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({"noise": 0.5}, "noise: the folder has 1.0; this run has 0.5"),
        ({"seed": 7}, "seed: the folder has 100000; this run has 7"),
        ({"num_episodes": 1}, "Type num_episodes=2 or more"),
    ],
)
def test_resume_with_other_parameters_is_refused(two, typed, said):
    """Both values are named."""
    with pytest.raises(PositronicError, match=said):
        run(replace(two, **typed))


def test_resume_with_another_scene_is_refused(two):
    """What the demonstrations depend on is all of the hardware's config."""
    gap = two.hardware.scene.gap
    two.hardware.scene.gap = gap / 2
    with pytest.raises(PositronicError, match=rf"hardware.scene.gap: the folder has {gap}; this run has"):
        run(two)


def test_resume_where_nothing_is_begins(sim_config, tmp_path):
    """A script may always type it."""
    run(Collect(hardware=sim_config, output_dir=str(tmp_path / "demo"), num_episodes=1, num_workers=1, resume=True))
    assert list(collected(tmp_path / "demo")[0]) == [0]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"asked": 1}'])
def test_a_damaged_record_is_named(two, tmp_path, text):
    """The file, and what to do."""
    (tmp_path / "demo" / COLLECTION_FILE).write_text(text)
    with pytest.raises(PositronicError, match=rf"{COLLECTION_FILE} is damaged.*Record elsewhere"):
        run(two)


def test_recordings_of_others_are_not_continued(sim_config, tmp_path):
    """Rollouts, say."""
    with DatasetWriter(tmp_path).new_episode() as episode:
        episode.append(keys.GRIP, 0.0, 0)
        episode.append(keys.GRIP, 0.0, 10**9)
    with pytest.raises(PositronicError, match="they were not recorded by stage=collect"):
        run(Collect(hardware=sim_config, output_dir=str(tmp_path), resume=True))


def test_an_output_that_holds_episodes_is_refused(sim_config, tmp_path):
    """An unfinished one counts; the message says what to type instead."""
    (tmp_path / "000000000000" / "000000000007").mkdir(parents=True)
    with pytest.raises(PositronicError, match=rf"(?s)holds 1 episodes.*resume=true.*={tmp_path}_2"):
        run(Collect(hardware=sim_config, output_dir=str(tmp_path)))


def test_only_the_simulator_has_an_expert(tmp_path):
    """Another hardware is refused with what to add."""
    with pytest.raises(PositronicError, match=r"found hardware=replay. Add hardware=sim"):
        run(Collect(hardware=HardwareConfig("replay"), output_dir=str(tmp_path)))
