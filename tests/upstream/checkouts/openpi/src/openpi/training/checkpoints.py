"""An experiment's folder and its checkpoints: written under a temporary name, whole when renamed."""

import json
import logging
import pathlib
import shutil
from typing import Any

import openpi.shared.normalize as _normalize
from openpi import standin

OCDBT = (
    "_METADATA",
    "_sharding",
    "manifest.ocdbt",
    "d/0",
    "array_metadatas/process_0",
    "ocdbt.process_0/manifest.ocdbt",
)


def initialize_checkpoint_dir(folder: pathlib.Path, *, overwrite: bool, resume: bool) -> bool:
    """Whether a checkpoint is gone on with. Raises FileExistsError for a folder that is there unasked."""
    is_resuming = False
    if folder.exists():
        if overwrite:
            shutil.rmtree(folder)
            logging.info(f"Wiped checkpoint directory {folder}")
        elif resume:
            is_resuming = True
        else:
            raise FileExistsError(
                f"Checkpoint directory {folder} already exists. Use --overwrite or --resume "
                "to indicate how to handle it."
            )
    folder.mkdir(parents=True, exist_ok=True)
    if is_resuming and all_steps(folder) in ([], [0]):
        logging.info("Checkpoint directory exists, but does not contain any checkpoints. Aborting resume.")
        is_resuming = False
    return is_resuming


def all_steps(folder: pathlib.Path) -> list[int]:
    return sorted(int(each.name) for each in folder.iterdir() if each.name.isdigit())


def save_state(folder: pathlib.Path, step: int, data_config: Any, keep_period: int | None) -> None:
    """Folder N holds the state after step N, its counter is N + 1."""
    made = folder / f"{step}.orbax-checkpoint-tmp-0"
    made.mkdir(parents=True)
    _write_tree(made / "params")
    if step == standin.told("kill_in_checkpoint"):
        standin.die()
    if step == standin.told("disk_full_in_checkpoint"):
        raise OSError(28, "No space left on device", str(made / "train_state"))
    _write_tree(made / "train_state")
    (made / "train_state" / "step.json").write_text(json.dumps({"step": step + 1}))
    _normalize.save(made / "assets" / data_config.asset_id, data_config.norm_stats)
    (made / "_CHECKPOINT_METADATA").write_text(json.dumps({"item_handlers": {}, "metrics": {}}))
    at, path = standin.told("pause_in_checkpoint", [None, None])
    if step == at:
        standin.wait_for(path)
    made.rename(folder / str(step))
    logging.info(f"Finished saving checkpoint (finalized tmp dir) to `{folder / str(step)}`.")
    for old in all_steps(folder)[:-1]:
        if keep_period is None or old % keep_period:
            shutil.rmtree(folder / str(old))


def restore_step(folder: pathlib.Path) -> int:
    """The step to go on at."""
    last = folder / str(all_steps(folder)[-1])
    if not (last / "train_state" / "_METADATA").exists():
        raise FileNotFoundError(f"Metadata file (named _METADATA) does not exist at {last / 'train_state'}.")
    return json.loads((last / "train_state" / "step.json").read_text())["step"]


def _write_tree(folder: pathlib.Path) -> None:
    for name in OCDBT:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"stand-in")
