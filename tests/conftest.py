"""Nothing here reaches the network or a display."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from standins import Checkout

# A shell that starts the tests in the background makes them, and what they start, deaf to Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")

ROOT = Path(__file__).parents[1]
HARDWARE = ROOT / "conf" / "hardware"

# ``run.py`` with a function that sends signals to the whole process group, as a terminal does, when it is called for
# the n-th time, before it does its work. SIGKILL is for the process alone, which says what its descendants are.
PRESSED = """
import importlib, os, runpy, signal, sys

def family(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        children = [int(child) for child in file.read().split()]
    return [each for child in children for each in (child, *family(child))]

def send(number):
    if number == signal.SIGKILL:
        print("family:", *family(os.getpid()), file=sys.stderr, flush=True)
        os.kill(os.getpid(), number)
    os.killpg(0, number)

def patch(owner, name, call, numbers):
    original, calls = getattr(owner, name), []
    def wrapped(*arguments, **named):
        calls.append(1)
        if len(calls) == call:
            for number in numbers:
                send(number)
        return original(*arguments, **named)
    setattr(owner, name, wrapped)

if __name__ == "__main__":
    run, where, call, numbers, *overrides = sys.argv[1:]
    module, _, names = where.partition(":")
    owner = importlib.import_module(module)
    *outer, name = names.split(".")
    for each in outer:
        owner = getattr(owner, each)
    for number in (signal.SIGINT, signal.SIGHUP):  # a background job and nohup are deaf to them
        signal.signal(number, signal.SIG_DFL)
    patch(owner, name, int(call), [int(number) for number in numbers.split(",")])
    sys.argv = [run, *overrides]
    sys.path.insert(0, os.path.dirname(run))
    runpy.run_path(run, run_name="__main__")
"""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """Reports go to another process as UTF-8, which cannot hold everything that a test may print."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(autouse=True)
def quiet_encoders():
    """LeRobot's writer makes FFmpeg print to stderr for the rest of the process; the next test is quiet again."""
    yield
    if (av := sys.modules.get("av")) is not None:
        av.logging.set_level(None)


@pytest.fixture
def one_thread():
    """The order of additions depends on the number of threads; here it has to be the same in two processes."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
def gr00t_checkout(tmp_path):
    """A stand-in for Isaac-GR00T, as of its main branch; ``become`` and ``tell`` make it another."""
    return Checkout("isaac_gr00t", tmp_path / "Isaac-GR00T", "main")


@pytest.fixture
def openpi_checkout(tmp_path):
    """A stand-in for openpi; ``tell`` makes it fail."""
    return Checkout("openpi", tmp_path / "openpi", "openpi")


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


@pytest.fixture
def press(tmp_path):
    """``press("module:function", call, [signals], *overrides)``: run.py, and what it left, when the signals reach its
    whole process group as the function is called for that time."""

    def run(where, call, numbers, *overrides):
        script = tmp_path / "pressed.py"
        script.write_text(PRESSED)
        typed = [str(ROOT / "run.py"), where, str(call), ",".join(str(int(number)) for number in numbers), *overrides]
        return subprocess.run(
            [sys.executable, str(script), *typed],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            start_new_session=True,
            timeout=200,
        )

    return run


@pytest.fixture
def kill(press, ends):
    """``kill("module:function", call, *overrides)``: how many processes run.py had started when it was killed there,
    after they have ended too."""

    def run(where, call, *overrides):
        done = press(where, call, [signal.SIGKILL], *overrides)  # back when the last one has closed its output
        assert done.returncode == -signal.SIGKILL, done.stderr
        (line,) = (line for line in done.stderr.splitlines() if line.startswith("family:"))
        pids = [int(pid) for pid in line.split()[1:]]
        assert all(ends(pid) for pid in pids)
        return len(pids)

    return run
