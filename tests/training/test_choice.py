"""Training on some of a dataset's episodes, judged by the others."""

import json

import numpy as np
import pytest

import positronic
from positronic import keys
from positronic.bake.convert import BakeOptions, bake
from positronic.bake.holdout import Holdout
from positronic.bake.reader import open_baked
from positronic.codecs.build import build
from positronic.errors import ConventionError, PositronicError
from positronic.raw.choice import Choice, choose
from positronic.raw.dataset import open_dataset
from positronic.raw.writer import DatasetWriter
from positronic.serving.policy import load_policy
from positronic.stages.train import run
from positronic.training.checkpoints import list_checkpoints
from positronic.training.choice import TrainChoice, split

pytestmark = pytest.mark.usefixtures("one_thread")

VERSIONS = {"commit": None, "dirty": None, "versions": {}}
FPS, SIDE = 5, 16


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Five episodes of 6 to 10 frames, of tasks "stack", "sort", "stack", ..."""
    random = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("choice") / "raw"
    for number in range(5):
        with DatasetWriter(folder).new_episode() as episode:
            for k in range(7 + number):
                pose = np.concatenate([random.normal(size=3), [1.0, 0.0, 0.0, 0.0]])
                values = {keys.EE_POSE: pose, keys.COMMAND_POSE: pose, keys.GRIP: random.uniform()}
                values |= {keys.TARGET_GRIP: random.uniform()}
                for camera in (keys.IMAGE_WRIST, keys.IMAGE_EXTERIOR):
                    values[camera] = np.full((SIDE, SIDE, 3), 20 * k + 5 * number, np.uint8)
                for name, value in values.items():
                    episode.append(name, value, k * 10**9 // FPS)
            episode.set_static(keys.TASK, "sort" if number % 2 else "stack")
    return open_dataset(folder)


def recipe():
    fixed = ["vendor=lerobot", "codec=ee", f"modality.image_size=[{SIDE},{SIDE}]", f"modality.action_fps={FPS}"]
    config = positronic.compose(["stage=convert", "dataset.path=x", *fixed])
    return build(config.codec, config.modality)


def baked(raw, folder, **options):
    bake(raw, recipe(), folder, BakeOptions(vendor="lerobot", num_workers=1, **options), VERSIONS)
    return open_baked(folder)


@pytest.fixture(scope="module")
def whole(raw, tmp_path_factory):
    return baked(raw, tmp_path_factory.mktemp("whole") / "baked")


@pytest.fixture(scope="module")
def settled(raw, tmp_path_factory):
    """A dataset that holds out two of its episodes itself."""
    return baked(raw, tmp_path_factory.mktemp("settled") / "baked", val_fraction=0.4, val_seed=seed(raw, 2))


def seed(raw, count):
    uids = [episode.uid for episode in raw]
    return next(seed for seed in range(1000) if len(Holdout(0.4, seed).among(uids)) == count)


def same_stats(ours, theirs):
    return all(np.array_equal(ours[name][key], theirs[name][key]) for name in theirs for key in theirs[name])


@pytest.mark.parametrize(
    ("values", "numbers"),
    [
        ({"episodes": (3, 0)}, [0, 3]),
        ({"tasks": ("stack",)}, [0, 2, 4]),
        ({"tasks": ("stack",), "max_episodes": 2}, [0, 2]),
        ({"max_episodes": 9}, [0, 1, 2, 3, 4]),
    ],
)
def test_the_chosen_episodes_have_the_statistics_of_a_bake_of_these(whole, raw, tmp_path, values, numbers):
    """To the last bit, pictures too."""
    sides = split(whole, TrainChoice(**values))
    assert (sides.training.numbers.tolist(), sides.held_out) == (numbers, None)
    alone = baked(choose(raw, Choice(episodes=tuple(numbers))), tmp_path / "alone")
    assert same_stats(sides.training.stats, alone.stats)
    np.testing.assert_array_equal(sides.training.vectors["action"], alone.vectors["action"])


def test_nothing_chosen_is_the_dataset_itself(whole):
    """Its own statistics, and no word of a choice in checkpoints."""
    sides = split(whole, TrainChoice())
    assert sides.training.vectors is whole.vectors
    assert sides.training.stats is whole.stats
    assert (sides.held_out, sides.record, str(sides)) == (None, None, "5 episodes")


def test_a_fraction_is_held_out_of_statistics_and_training(whole, raw):
    """As a bake with the same fraction and seed holds them out."""
    choice = TrainChoice(val_fraction=0.4, val_seed=seed(raw, 2))
    sides = split(whole, choice)
    held_out = Holdout(0.4, choice.val_seed).among([episode.uid for episode in raw])
    assert sides.held_out.numbers.tolist() == held_out
    assert sorted([*sides.training.numbers, *held_out]) == list(range(5))
    assert str(sides) == "3 of 5 episodes, 2 held out"
    assert sides.record["held_out"] == held_out


def test_what_the_dataset_holds_out_is_held_out(settled, whole, raw):
    """Nothing has to be typed; its statistics are those of the others, as training would compute them."""
    sides = split(settled, TrainChoice())
    assert sides.held_out.numbers.tolist() == settled.manifest.held_out_episodes
    typed = split(whole, TrainChoice(val_fraction=0.4, val_seed=seed(raw, 2)))
    assert same_stats(typed.training.stats, settled.stats)
    assert split(settled, TrainChoice(val_fraction=0.4, val_seed=seed(raw, 2))).record == sides.record


def test_other_held_out_episodes_than_the_dataset_s_are_refused(settled):
    """With both sides."""
    with pytest.raises(ConventionError, match="val_fraction: .* has 0.4; this run has 0.2"):
        split(settled, TrainChoice(val_fraction=0.2))


def test_the_first_so_many_leave_those_held_out_as_they_are(settled):
    """A sweep over max_episodes is judged by the same episodes."""
    sides = [split(settled, TrainChoice(max_episodes=count)) for count in (1, 2)]
    assert [len(each.training.numbers) for each in sides] == [1, 2]
    assert {tuple(each.held_out.numbers) for each in sides} == {tuple(settled.manifest.held_out_episodes)}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"episodes": (0, 5)}, "has no episode 5. It has 5, numbered 0 to 4"),
        ({"tasks": ("stak",)}, "tasks: no episode of .* has the task 'stak'. Did you mean 'stack'"),
        ({"episodes": (1,), "tasks": ("stack",)}, "chosen by episodes 1, tasks 'stack' together"),
    ],
)
def test_what_the_dataset_has_not_is_refused(whole, values, said):
    """With what there is."""
    with pytest.raises(PositronicError, match=said):
        split(whole, TrainChoice(**values))


def test_held_out_episodes_alone_cannot_be_trained_on(settled):
    """However they are chosen."""
    with pytest.raises(PositronicError, match="are held out; none is left to train on"):
        split(settled, TrainChoice(episodes=tuple(settled.manifest.held_out_episodes)))


@pytest.fixture
def typed(tiny_act, whole):
    """``typed("name", ...)``: a run of four steps on ``whole``."""
    fixed = [f"input_path={whole.root}", f"modality.action_fps={FPS}", "modality.action_horizon_sec=0.4"]
    fixed += ["num_train_steps=4", "save_freq=2", "learning_rate=1e-3"]
    return lambda name, *more: tiny_act(name, *fixed, *more)


def rows_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_each_checkpoint_has_the_loss_of_the_held_out_episodes(typed, raw, tmp_path, capsys):
    """The training itself is, bit for bit, that of a run on the same episodes without any held out."""
    held = [f"val_seed={seed(raw, 2)}", "val_fraction=0.4"]
    result = run(positronic.compose(typed("held", *held)))
    assert "3 of 5 episodes, 2 held out" in capsys.readouterr().out
    rows = rows_of(tmp_path / "held")
    assert [row["step"] for row in rows if "val_loss" in row] == [2, 4]
    assert result.metrics["val_loss"] > 0

    trained = json.loads((tmp_path / "held/checkpoints/000004/positronic.json").read_text())["training"]
    assert trained["choice"]["held_out"] == Holdout(0.4, seed(raw, 2)).among([each.uid for each in raw])
    run(positronic.compose(typed("alone", f"episodes={trained['choice']['episodes']}".replace(" ", ""))))
    assert [row["loss"] for row in rows_of(tmp_path / "alone")] == [row["loss"] for row in rows]


def test_a_resumed_run_keeps_its_choice(typed, raw, tmp_path):
    """It is judged as before, by the same numbers; another choice is refused with both values."""
    held = [f"val_seed={seed(raw, 2)}", "val_fraction=0.4"]
    run(positronic.compose(typed("whole", *held)))
    run(positronic.compose(typed("cut", *held, "num_train_steps=2", "lr_schedule=constant")))
    with pytest.raises(PositronicError, match=r"val_fraction: the checkpoint has 0.4; this run has absent"):
        run(positronic.compose(typed("whole", "resume=true", "num_train_steps=6")))
    with pytest.raises(PositronicError, match=r"trained episodes: the checkpoint has 3, \w+; this run has 1, \w+"):
        run(positronic.compose(typed("whole", *held, "resume=true", "max_episodes=1")))
    run(positronic.compose(typed("cut", *held, "resume=true", "num_train_steps=4", "lr_schedule=constant")))
    run(positronic.compose(typed("once", *held, "lr_schedule=constant")))
    assert rows_of(tmp_path / "cut")[-1]["val_loss"] == rows_of(tmp_path / "once")[-1]["val_loss"]


def test_the_best_checkpoint_is_kept_and_told(typed, raw, tmp_path, capsys):
    """By the loss of the held-out episodes, which each checkpoint says of itself; a served one stays as well."""
    held = [f"val_seed={seed(raw, 2)}", "val_fraction=0.4"]
    result = run(positronic.compose(typed("run", *held, "save_freq=1", "keep_last=1", "ema_decay=0.5")))
    judged = {row["step"]: row["val_loss"] for row in rows_of(tmp_path / "run")}
    best = min(judged, key=judged.get)
    assert (result.best, len(judged)) == (f"{best:06d}", 4)
    assert f"best:       {best:06d}" in capsys.readouterr().out
    checkpoints = list_checkpoints(tmp_path / "run")
    assert [checkpoint.step for checkpoint in checkpoints] == sorted({best, 4})
    assert [checkpoint.info()["val_loss"] for checkpoint in checkpoints] == [judged[c.step] for c in checkpoints]

    served = load_policy(tmp_path / "run")
    run(positronic.compose(typed("run", *held, "keep_last=1", "ema_decay=0.5", "resume=true", "num_train_steps=6")))
    assert 4 in [checkpoint.step for checkpoint in list_checkpoints(tmp_path / "run")]
    del served


def test_the_held_out_loss_is_told_everywhere(typed, raw, tmp_path, capsys):
    """In metrics.jsonl, among the lines, in the picture's file, and at Weights & Biases; without held-out episodes
    nowhere."""
    held = [f"val_seed={seed(raw, 2)}", "val_fraction=0.4"]
    few = ["num_train_steps=2", "save_freq=2", "tracker=wandb", "tracker.mode=offline"]
    for name, more in (("held", held), ("plain", [])):
        run(positronic.compose(typed(name, *few, *more)))
        told = name == "held"
        (record,) = (tmp_path / name).glob("wandb/offline-run-*/run-*.wandb")
        assert (b"val_loss" in record.read_bytes()) is told
        assert any("val_loss" in row for row in rows_of(tmp_path / name)) is told
        assert ("val loss" in capsys.readouterr().out) is told
        assert (tmp_path / name / "loss.png").is_file()
