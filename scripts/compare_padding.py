"""Whether π0.5 should count the steps of a chunk that lie past its episode's end: two small networks, one difference.

    python scripts/compare_padding.py --root data/padding

Demonstrations of the simulator's task are collected and converted, of scenes in which a cube has one of two places and
is not turned (``--wide``: those of the quickstart). A π0.5 of about a million parameters is trained on them twice, from
the same random weights, on the same samples, with the same random numbers: once with ``vendor.mask_padding=false``, as
openpi trains, and once with ``true``. Then both

- predict the held-out episodes from the same noise. ``inside`` are the steps of chunks that lie whole in their episode,
  ``near the end`` the real steps of the others, ``past the end`` the rest of these, whose label is the last action;
- play the same unseen scenes from the same noise, for up to ``--seconds``;
- go on for three seconds where the expert has finished such a scene, which is where demonstrations end: does the stack
  still stand after that, and how far does the tool get from where it should rest?

Differences are masked minus counted, of one episode or scene at a time, with a 95 % interval by bootstrap over them.
What an earlier run finished is kept. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from bench.played import Played, play
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from positronic.utils.threads import wait_quietly

if TYPE_CHECKING:
    from positronic.bake.reader import BakedDataset
    from positronic.vendors.model import ChunkModel

ARMS = {"counted": "false", "masked": "true"}  # name -> vendor.mask_padding
IMAGE = "[56,56]"
SEEN = {"width": 96, "mlp_dim": 192, "vision_width": 96, "vision_depth": 2, "vision_heads": 4}
SIZES = SEEN | {"vision_mlp_dim": 192, "expert_width": 96, "depth": 3}  # as vendors/openpi/toy.py names them
SHORT = {"tokenizer_max_length": "40", "num_inference_steps": "5"}
POLICY = SHORT | {"gradient_checkpointing": "false", "image_resolution": IMAGE}
RANGES = {"x": "[0.48,0.52]", "y": "[-0.065,0.065]", "yaw": "[0.0,0.0]"}  # red left of blue, or right
SCENE = {f"things.{cube}.{name}": value for cube in ("red", "blue") for name, value in RANGES.items()}
PLACES = "inside", "near the end", "past the end"
HELD_OUT = 0.1
RESAMPLES = 4000

Floats = NDArray[np.float64]
Measured = dict[str, Floats]
"""What is measured -> one number for each episode or scene, NaN where there is none."""


def main() -> None:
    options = parse()
    wait_quietly()
    root = options.root.resolve()
    baked = data(root, options)
    base = base_of(baked, root / f"base_{options.chunk}_{options.seed}", options)
    folders = {arm: train(arm, masks, baked, base, root / "checkpoints", options) for arm, masks in ARMS.items()}
    found = {arm: measure(folder, baked, options) for arm, folder in folders.items()}
    still = errors_of(Still((options.chunk,)), held_out(baked), options.seed)
    rows = {name: compared(found["counted"][name], found["masked"][name], still.get(name)) for name in found["counted"]}
    Console(width=120).print(table_of(rows, options))
    print(json.dumps({name: row.to_dict() for name, row in rows.items()}))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--root", type=Path, default=Path("data/padding"), help="where everything is written")
    add("--wide", action="store_true", help="scenes of the quickstart, of which so small a network learns little")
    add("--episodes", type=int, default=200, help="demonstrations")
    add("--chunk", type=int, default=16, help="steps that are predicted at once")
    add("--played", type=int, default=8, help="of which so many are played")
    add("--steps", type=int, default=1500, help="of training")
    add("--batch", type=int, default=16, help="samples in one step")
    add("--learning-rate", type=float, default=1e-3)
    add("--scenes", type=int, default=40, help="to play")
    add("--seconds", type=float, default=6.0, help="of a scene at most")
    add("--seed", type=int, default=0, help="of weights, samples and noise")
    return parser.parse_args()


# Training


def shape_of(options: argparse.Namespace) -> list[str]:
    """What converting and training say alike."""
    modality = {"image_size": IMAGE, "action_chunk": options.chunk, "config_name": "pi05_positronic"}
    return [
        "vendor=openpi",
        "codec.switch_grip=true",
        *(f"modality.{name}={value}" for name, value in modality.items()),
    ]


def scenes_of(options: argparse.Namespace) -> list[str]:
    """What collecting and playing say alike."""
    narrow = {} if options.wide else SCENE
    return ["+experiment=quickstart", *(f"hardware.scene.{name}={value}" for name, value in narrow.items())]


def data(root: Path, options: argparse.Namespace) -> Path:
    """The converted demonstrations."""
    raw, baked = root / "raw", root / f"baked_{options.chunk}"
    run("collect", *scenes_of(options), f"output_dir={raw}", f"num_episodes={options.episodes}", "resume=true")
    if not baked.exists():
        source = ["dataset=local", f"dataset.path={raw}", f"val_fraction={HELD_OUT}"]
        run("convert", *source, *shape_of(options), f"output_dir={baked}")
    return baked


def base_of(baked: Path, folder: Path, options: argparse.Namespace) -> Path:
    """A folder with the random weights that both start from."""
    from positronic.bake.reader import open_baked
    from positronic.policies.weights import save_weights
    from positronic.training.state import seed_everything
    from positronic.vendors.openpi.native import config_of
    from positronic.vendors.openpi.network import build
    from positronic.vendors.openpi.tokens import FOLDER, word_tokenizer
    from positronic.vendors.openpi.toy import Toy

    if folder.exists():
        return folder
    dataset, vendor = open_baked(baked), compose("train", *shape_of(options), *policy()).vendor
    tokenizer, config = word_tokenizer(dataset.tasks), config_of(dataset.recipe, vendor.policy)
    sizes = Toy(len(tokenizer) + 1, **SIZES)
    seed_everything(options.seed)
    module = build(config, sizes, lora=False)
    folder.mkdir(parents=True)
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder / FOLDER)
    sizes.save(folder)
    save_weights(module, folder)
    return folder


def policy() -> list[str]:
    return [f"vendor.policy.{name}={value}" for name, value in POLICY.items()]


def train(arm: str, masks: str, baked: Path, base: Path, checkpoints: Path, options: argparse.Namespace) -> Path:
    """The folder of the experiment."""
    name = f"{arm}_{options.chunk}_{options.steps}_{options.seed}"
    values = {"input_path": baked, "output_dir": checkpoints, "exp_name": name, "vendor.base": base}
    values |= {"num_train_steps": options.steps, "save_freq": options.steps, "batch_size": options.batch}
    values |= {"learning_rate": options.learning_rate, "seed": options.seed, "vendor.mask_padding": masks}
    values |= {"precision": "fp32", "device": "cpu", "resume": "true"}
    run("train", *shape_of(options), *policy(), *(f"{key}={value}" for key, value in values.items()))
    return checkpoints / name


def compose(stage: str, *typed: str) -> Any:
    import positronic

    return positronic.compose([f"stage={stage}", *typed])


def run(stage: str, *typed: str) -> None:
    import positronic

    positronic.run(compose(stage, *typed))


# Measuring


def measure(experiment: Path, baked: Path, options: argparse.Namespace) -> Measured:
    """All numbers of one arm."""
    from positronic.serving.policy import load_policy

    policy = load_policy(experiment, device="cpu")
    hardware = compose("infer", *scenes_of(options)).hardware
    how = Played(options.scenes, options.played, options.seconds, options.seed)
    return errors_of(policy.model, held_out(baked), options.seed) | play(policy, hardware, how)


def held_out(baked: Path) -> BakedDataset:
    """The episodes that were not trained on."""
    from positronic.bake.reader import open_baked
    from positronic.training.choice import TrainChoice, split

    side = split(open_baked(baked), TrainChoice()).held_out
    assert side is not None, "it was converted with val_fraction"
    return side


def errors_of(model: ChunkModel, dataset: BakedDataset, seed: int) -> Measured:
    """Mean distance in mm of predicted positions from the labels, and of grippers in %, by place in the episode."""
    means = []
    for padding, errors in predicted(model, dataset, seed):
        reaches = padding.any(axis=1, keepdims=True)
        places = (~padding & ~reaches, ~padding & reaches, padding)
        means.append([errors[steps].mean(axis=0) if steps.any() else np.full(2, np.nan) for steps in places])
    of_what = np.array(means).transpose(2, 1, 0)
    named = zip(("position, mm", "gripper, %"), of_what, strict=True)
    return {f"{what}, {place}": row for what, rows in named for place, row in zip(PLACES, rows, strict=True)}


def predicted(model: ChunkModel, dataset: BakedDataset, seed: int) -> Iterator[tuple[NDArray[np.bool_], Floats]]:
    """Of each episode, for its N frames: which steps (N, H) of their chunks are padding, and the errors (N, H, 2) of
    the position in mm and of the gripper in %."""
    from positronic.bake.frame_source import in_memory
    from positronic.training.batches import PAD_SUFFIX, BatchMaker, SampleOrder

    shape, action = model.noise_shape, dataset.recipe.modality.action_column.name
    assert shape is not None
    order = SampleOrder(len(dataset), 1, seed)
    maker = BatchMaker(dataset, in_memory(dataset), order, np.arange(shape[0]), with_task=True)
    noise = np.random.default_rng(seed).standard_normal((len(dataset), *shape), np.float32)
    for first, end in zip(dataset.starts, dataset.ends, strict=True):
        batch = maker.of(np.arange(first, end))
        padding, labels = batch.pop(action + PAD_SUFFIX), batch.pop(action)
        seen = [{name: values[row] for name, values in batch.items()} for row in range(end - first)]
        off = np.stack(model.predict(seen, list(noise[first:end]))) - labels
        yield padding, np.stack([1e3 * np.linalg.norm(off[..., :3], axis=-1), 1e2 * abs(off[..., -1])], axis=-1)


@dataclass(frozen=True)
class Still:
    """No policy: each chunk says to stay where one is."""

    noise_shape: tuple[int, ...]

    def predict(self, seen: list[dict[str, Any]], noise: object) -> list[NDArray[np.float32]]:
        """Of codec=ee, whose states and actions have the same numbers."""
        return [np.repeat(each["observation.state"][None], self.noise_shape[0], axis=0) for each in seen]


# What comes out


@dataclass(frozen=True)
class Row:
    """Means of both arms over what both have, and the mean difference with its interval. ``still``: of staying where
    one is."""

    count: int
    counted: float
    masked: float
    difference: float
    low: float
    high: float
    still: float

    def to_dict(self) -> dict[str, float]:
        """Rounded."""
        return {name: round(value, 4) for name, value in vars(self).items() if np.isfinite(value)}


def compared(counted: Floats, masked: Floats, still: Floats | None = None) -> Row:
    """``counted``, ``masked``, ``still`` (N,): of the same episodes or scenes."""
    both = np.isfinite(counted) & np.isfinite(masked)
    sides = np.stack([counted[both], masked[both]])
    if not both.any():
        return Row(0, *[float("nan")] * 6)
    differences = sides[1] - sides[0]
    drawn = np.random.default_rng(0).choice(differences, (RESAMPLES, len(differences))).mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    bounds = float(differences.mean()), float(low), float(high)
    unmoved = float("nan") if still is None else float(still[both].mean())
    return Row(int(both.sum()), *sides.mean(axis=1).tolist(), *bounds, unmoved)


def table_of(rows: Mapping[str, Row], options: argparse.Namespace) -> Table:
    """A row for each thing that was measured."""
    table = Table(title=f"π0.5 after {options.steps} steps, chunks of {options.chunk}; load {os.getloadavg()[0]:.1f}")
    for heading in ("", "n", "counted", "masked", "masked - counted", "95 % interval", "standing still"):
        table.add_column(heading, justify="left" if not heading else "right", no_wrap=True)
    for name, row in rows.items():
        interval = f"{row.low:+.2f} .. {row.high:+.2f}"
        still = "" if np.isnan(row.still) else f"{row.still:.2f}"
        cells = f"{row.counted:.2f}", f"{row.masked:.2f}", f"{row.difference:+.2f}", interval, still
        table.add_row(name, str(row.count), *cells)
    return table


if __name__ == "__main__":
    main()
