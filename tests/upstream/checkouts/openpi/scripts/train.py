"""``python scripts/train.py CONFIG --exp-name E ...``: training, whose loss shrinks by a hundredth with every step."""

import logging
import math
import os
import platform
import time

import jax
import numpy as np
import openpi.training.checkpoints as _checkpoints
import openpi.training.config as _config
import openpi.training.data_loader as _data_loader
from openpi import standin

LEVELS = {"DEBUG": "D", "INFO": "I", "WARNING": "W", "ERROR": "E", "CRITICAL": "C"}


class Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        record.levelname = LEVELS.get(record.levelname, record.levelname)
        return super().format(record)


def init_logging() -> None:
    logger = logging.getLogger()
    logger.setLevel(logging.INFO)
    if not logger.handlers:
        logger.addHandler(logging.StreamHandler())
    line = "%(asctime)s.%(msecs)03d [%(levelname)s] %(message)-80s (%(process)d:%(filename)s:%(lineno)s)"
    logger.handlers[0].setFormatter(Formatter(fmt=line, datefmt="%H:%M:%S"))


def init_wandb(config: _config.TrainConfig, *, resuming: bool) -> None:
    if not config.wandb_enabled:
        return
    if not {"WANDB_API_KEY", "WANDB_MODE"} & set(os.environ):
        raise RuntimeError(
            "wandb.errors.errors.UsageError: api_key not configured (no-tty). call wandb.login(key=[...])"
        )
    path = config.checkpoint_dir / "wandb_id.txt"
    if resuming:
        path.read_text()
    else:
        path.write_text("standin0")


def main(config: _config.TrainConfig) -> None:
    init_logging()
    logging.info(f"Running on: {platform.node()}")
    standin.start()
    if config.batch_size % jax.device_count() != 0:
        raise ValueError(
            f"Batch size {config.batch_size} must be divisible by the number of devices {jax.device_count()}."
        )
    jax.config.update("jax_compilation_cache_dir", "~/.cache/jax")
    folder = config.checkpoint_dir
    resuming = _checkpoints.initialize_checkpoint_dir(folder, overwrite=config.overwrite, resume=config.resume)
    init_wandb(config, resuming=resuming)
    data_config, loader = _data_loader.create_data_loader(config, shuffle=True)
    batches = iter(loader)
    batch = next(batches)
    logging.info(f"Initialized data loader:\n{ {name: each.shape for name, each in batch.items()} }")
    config.optimizer.create(config.lr_schedule.create())
    first = _checkpoints.restore_step(folder) if resuming else 0
    if not resuming:
        config.weight_loader.load({})
    began, losses = time.monotonic(), []
    for step in range(first, config.num_train_steps):
        _say_progress(step, first, config.num_train_steps, began)
        _fail(step)
        nan = standin.told("nan_at_step", step + 1) <= step
        losses.append(math.nan if nan else float(np.mean(batch["actions"].astype(np.float64) ** 2)) * 0.99**step)
        if step % config.log_interval == 0:
            loss = float(np.mean(losses))
            print(f"\r\rStep {step}: grad_norm={loss / 2:.4f}, loss={loss:.4f}, param_norm=69.8344", flush=True)
            losses = []
        batch = next(batches)
        if (step % config.save_interval == 0 and step > first) or step == config.num_train_steps - 1:
            _checkpoints.save_state(folder, step, data_config, config.keep_period)
    logging.info("Waiting for checkpoint manager to finish")


def _say_progress(step: int, first: int, steps: int, began: float) -> None:
    """Upstream says it every ten seconds, here with every step."""
    done = "-" if step == first else f"{step:.2f}it"
    spent = int(time.monotonic() - began)
    elapsed = f"{spent // 60:02d}:{spent % 60:02d}"
    logging.info(f"Progress on: {done}/{steps:.2f}it rate:1.0s/it remaining:00:26 elapsed:{elapsed} postfix:-")


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


if __name__ == "__main__":
    main(_config.cli())
