"""Nothing here reaches the network or a display."""

import os
import select
import signal
from pathlib import Path

import pytest
from omegaconf import OmegaConf

# A shell that starts the tests in the background makes them, and what they start, deaf to Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")

HARDWARE = Path(__file__).parents[1] / "conf" / "hardware"


@pytest.fixture
def sim_config():
    """hardware=sim as it is shipped, with small pictures."""
    from positronic.hardware.sim.config import SimConfig

    values = OmegaConf.load(HARDWARE / "sim.yaml")
    del values["defaults"]
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(SimConfig), values))
    config.image_size = [32, 48]
    return config


@pytest.fixture
def ends():
    """``ends(pid)``: whether a process ends within a minute; it need not be a child of ours."""

    def wait(pid):
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return True
        try:
            return bool(select.select([descriptor], [], [], 60)[0])
        finally:
            os.close(descriptor)

    return wait
