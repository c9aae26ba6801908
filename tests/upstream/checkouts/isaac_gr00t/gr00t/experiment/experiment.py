"""A run of training: reads the dataset, "learns" nothing, and prints and writes what the real one does, in its order.

The loss is that of a model that always says the mean, shrinking with the steps; seed 42, so a second run prints the
same. Weights are those of the base.
"""

import json
import logging
import math
import os
import re
import shutil
import sys
import time
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from gr00t import standin
from gr00t.configs.data.embodiment_configs import MODALITY_CONFIGS
from gr00t.configs.model import gr00t_n1d7
from gr00t.data.dataset.lerobot_episode_loader import LeRobotEpisodeLoader
from gr00t.data.embodiment_tags import EMBODIMENT_TAG_MAPPING, EmbodimentTag
from gr00t.data.stats import NUMBERS, generate_rel_stats, generate_stats
from gr00t.data.types import ActionRepresentation, to_json

LOGGING_STEPS, SEED = 10, 42
CHECKPOINT = re.compile(r"checkpoint-(\d+)")


def run(config: Any, tag: EmbodimentTag) -> None:
    standin.start()
    _require_wandb(config)
    logging.basicConfig(
        level=logging.INFO,
        format="[%(asctime)s] [%(filename)s:%(funcName)s:%(lineno)d] %(levelname)s: %(message)s",
        datefmt="%Y-%m-%d %H:%M:%S",
    )
    output = Path(config.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    _write_settings(config, output)
    logging.info(f"Saved config to {output / 'experiment_cfg'}")
    base = _base(config.base_model_path)
    loaders = [_dataset(Path(path), tag) for path in config.dataset_path.split(os.pathsep)]
    files = _processor_files(base, loaders, tag)
    _write(output / "processor", files)
    _train(config, base, files, _spread(loaders, tag))
    _write_model(base, output)
    (output / "training_args.bin").write_bytes(b"stand-in")
    logging.info(f"Model saved to {output}")
    logging.info("Training completed!")


def _require_wandb(config: Any) -> None:
    if find_spec("wandb") is None:
        raise ModuleNotFoundError("No module named 'wandb'")
    if config.use_wandb and not {"WANDB_API_KEY", "WANDB_MODE"} & set(os.environ):
        raise RuntimeError(
            "wandb.errors.errors.UsageError: api_key not configured (no-tty). call wandb.login(key=[...])"
        )


def _write_settings(config: Any, output: Path) -> None:
    folder = output / "experiment_cfg"
    folder.mkdir(exist_ok=True)
    said = json.dumps(to_json(asdict(config)), indent=2)
    for name in ("config.yaml", "conf.yaml"):  # JSON is YAML
        (folder / name).write_text(said)
    (output / "wandb_config.json").write_text(json.dumps({"project": "finetune-gr00t-n1d7", "run_id": output.name}))


def _base(name: str) -> Path:
    """The folder of the base, here or in the hub's cache."""
    cached = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser() / "hub"
    cached = next(cached.glob(f"models--{name.replace('/', '--')}/snapshots/*"), None)
    folder = Path(name) if Path(name).is_dir() else cached
    if folder is None:
        raise OSError(
            f"We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them in the cached "
            f"files.\nCheck your internet connection or see how to run the library in offline mode. ({name})"
        )
    if not list(folder.glob("model*.safetensors")):
        raise OSError(f"Error no file named model.safetensors, or pytorch_model.bin, found in directory {folder}.")
    return folder


def _dataset(root: Path, tag: EmbodimentTag) -> LeRobotEpisodeLoader:
    generate_stats(root)
    generate_rel_stats(root, tag.value)
    loader = LeRobotEpisodeLoader(root, MODALITY_CONFIGS[tag.value])
    horizon = len(loader.modality_configs["action"].delta_indices)
    if horizon > gr00t_n1d7.MAX_ACTION_HORIZON:
        raise ValueError(f"Action horizon {horizon} is larger than the model's {gr00t_n1d7.MAX_ACTION_HORIZON}")
    samples = sum(max(length - horizon + 1, 0) for length in loader.lengths.values())
    assert samples, f"No valid samples in {root}: every episode is shorter than {horizon} steps"
    logging.info(f"{len(loader)} episodes, {samples} steps in {root}")
    return loader


def _spread(loaders: list[LeRobotEpisodeLoader], tag: EmbodimentTag) -> float:
    """Mean squared distance of the actions from their middle, in units of their range: what a loss starts at."""
    keys, found = MODALITY_CONFIGS[tag.value]["action"].modality_keys, []
    for loader in loaders:
        episodes = [loader[number] for number in range(len(loader))]
        for key in keys:
            values = np.concatenate([each[f"action.{key}"] for each in episodes])
            found.append(np.mean(((values - values.mean(0)) / np.maximum(np.ptp(values, 0) / 2, 1e-6)) ** 2))
    return float(np.mean(found))


def _processor_files(base: Path, loaders: list[LeRobotEpisodeLoader], tag: EmbodimentTag) -> dict[str, Any]:
    """Name -> content. Of several datasets the first one's numbers are taken."""
    theirs = _json(base / "processor_config.json")
    limits = _json(base / "config.json")
    ours = {
        "modality_configs": {tag.value: to_json(MODALITY_CONFIGS[tag.value])},
        "use_relative_action": True,
        "max_action_horizon": limits.get("action_horizon", gr00t_n1d7.MAX_ACTION_HORIZON),
        "max_state_dim": limits.get("max_state_dim", gr00t_n1d7.MAX_STATE_DIM),
        "max_action_dim": limits.get("max_action_dim", gr00t_n1d7.MAX_ACTION_DIM),
    }
    kwargs = {"use_percentiles": False, "clip_outliers": True, **theirs.get("processor_kwargs", {}), **ours}
    slots = {**EMBODIMENT_TAG_MAPPING, **_json(base / "embodiment_id.json")}
    return {
        "processor_config.json": {"processor_class": "Gr00tN1d7Processor", **theirs, "processor_kwargs": kwargs},
        "statistics.json": {tag.value: _statistics(loaders[0])},
        "embodiment_id.json": slots,
    }


def _statistics(loader: LeRobotEpisodeLoader) -> dict[str, Any]:
    stats = _json(loader.root / "meta/stats.json")
    relative = _json(loader.root / "meta/relative_stats.json")
    found: dict[str, Any] = {"state": {}, "action": {}, "relative_action": {}}
    for kind in ("state", "action"):
        for key in loader.modality_configs[kind].modality_keys:
            column = stats[loader.column(kind, key)]
            cut = {name: loader.cut(kind, key, np.asarray(column[name])).tolist() for name in NUMBERS}
            found[kind][key] = cut
    action = loader.modality_configs["action"]
    for key, config in zip(action.modality_keys, action.action_configs or [], strict=False):
        if config.rep is ActionRepresentation.RELATIVE:
            relative[key]["min"][len(action.delta_indices) - 1]  # an IndexError for those of a shorter chunk
            found["relative_action"][key] = {name: relative[key][name] for name in NUMBERS}
    return found


def _train(config: Any, base: Path, files: dict[str, Any], spread: float) -> None:
    output, began = Path(config.output_dir), time.monotonic()
    done = _resumed(output)
    if done:
        print(f"Resetting seed to {SEED + done}. Please note that this will make the experiment non-reproducible.")
    losses = []
    for step in range(done + 1, config.max_steps + 1):
        _fail(step)
        losses.append(math.nan if standin.told("nan_at_step", step + 1) <= step else spread * 0.99**step)
        sys.stderr.write(
            f"\r{step * 100 // config.max_steps:3d}%|{'█' * 5}     | {step}/{config.max_steps} [00:01<00:01]"
        )
        if step % LOGGING_STEPS == 0 or step == config.max_steps:
            lr = _learning_rate(config, step)
            print({"loss": round(losses[-1], 4), "grad_norm": round(losses[-1] / 4, 4), "learning_rate": lr})
        if step % config.save_steps == 0 or step == config.max_steps:
            _save(config, base, files, step)
    sys.stderr.write("\n")
    took = time.monotonic() - began
    print({"train_runtime": round(took, 4), "train_loss": float(np.mean(losses)) if losses else 0.0})


def _resumed(output: Path) -> int:
    """The step to go on at. Raises as transformers does for a checkpoint that is not whole."""
    steps = [int(found[1]) for each in output.iterdir() if (found := CHECKPOINT.fullmatch(each.name))]
    if not steps:
        logging.warning(f"No checkpoint found in {output}, training from scratch")
        return 0
    last = output / f"checkpoint-{max(steps)}"
    if not list(last.glob("model*.safetensors")):
        raise ValueError(f"Can't find a valid checkpoint at {last}")
    return json.loads((last / "trainer_state.json").read_text())["global_step"]


def _learning_rate(config: Any, step: int) -> float:
    """Linear to the peak, then half a cosine to 0 at max_steps."""
    warmup = math.ceil(config.warmup_ratio * config.max_steps)
    if step < warmup:
        return config.learning_rate * step / max(1, warmup)
    progress = (step - warmup) / max(1, config.max_steps - warmup)
    return config.learning_rate * max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress)))


def _fail(step: int) -> None:
    at, path = standin.told("pause_at_step", [None, None])
    if step == at:
        standin.wait_for(path)
    if step == standin.told("crash_at_step"):
        raise RuntimeError(f"DataLoader worker (pid(s) 4711) exited unexpectedly at step {step}")
    if step == standin.told("out_of_memory_at_step"):
        standin.out_of_memory()
    if step == standin.told("kill_at_step"):
        standin.die()


def _save(config: Any, base: Path, files: dict[str, Any], step: int) -> None:
    """Trainer's files first; the oldest checkpoints go; then what a server needs; wandb_config.json is the last."""
    output = Path(config.output_dir)
    folder = output / f"checkpoint-{step}"
    folder.mkdir(exist_ok=True)
    _write_model(base, folder)
    if step == standin.told("kill_in_checkpoint"):
        standin.die()
    if step == standin.told("disk_full_in_checkpoint"):
        raise OSError(28, "No space left on device", str(folder / "optimizer.pt"))
    state = ["training_args.bin"]
    state += [] if getattr(config, "save_only_model", False) else ["optimizer.pt", "scheduler.pt", "rng_state.pth"]
    for name in state:
        (folder / name).write_bytes(b"stand-in")
    told = {"global_step": step, "max_steps": config.max_steps, "save_steps": config.save_steps}
    (folder / "trainer_state.json").write_text(json.dumps(told, indent=2))
    steps = sorted(int(found[1]) for each in output.iterdir() if (found := CHECKPOINT.fullmatch(each.name)))
    for old in steps[: max(0, len(steps) - config.save_total_limit)]:
        shutil.rmtree(output / f"checkpoint-{old}")
    shutil.copytree(output / "experiment_cfg", folder / "experiment_cfg", dirs_exist_ok=True)
    _write(folder, files)
    at, path = standin.told("pause_in_checkpoint", [None, None])
    if step == at:
        standin.wait_for(path)
    shutil.copyfile(output / "wandb_config.json", folder / "wandb_config.json")


def _write_model(base: Path, folder: Path) -> None:
    shutil.copyfile(base / "config.json", folder / "config.json")
    for path in sorted(base.glob("model*.safetensors*")):
        shutil.copyfile(path, folder / path.name)


def _write(folder: Path, files: dict[str, Any]) -> None:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2))


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}
