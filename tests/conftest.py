"""Nothing here reaches the network or a display."""

import copy
import json
import os
import select
import signal
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from standins import Checkout

# A shell that starts the tests in the background makes them, and what they start, deaf to Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")

ROOT = Path(__file__).parents[1]

ALONE = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
PYTHON = [sys.executable, "-P"]  # the folder of tests has names of libraries in it
PRESSED = Path(__file__).parent / "pressed.py"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """Reports go to another process as UTF-8, which cannot hold everything that a test may print."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report


def pytest_terminal_summary(terminalreporter):
    """What was not tested here, and why: one line for each reason."""
    skipped = terminalreporter.stats.get("skipped", [])
    for reason, count in Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped).items():
        terminalreporter.write_line(f"Not tested here ({count}): {reason}", yellow=True)


@pytest.fixture(autouse=True)
def same_signals():
    """A stage that was interrupted in this process leaves it deaf to further signals; the next test is not."""
    stopping = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)
    before = {number: signal.getsignal(number) for number in stopping}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


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
    return copy.deepcopy(_sim_config())


@cache
def _sim_config():
    import positronic

    return positronic.compose(["stage=collect", "hardware.image_size=[32,48]"]).hardware


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
        return subprocess.run(
            [*PYTHON, str(PRESSED), *typed_there(where, call, numbers, *overrides)],
            cwd=tmp_path,
            env=os.environ | ALONE,
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
        return started_and_ended(done.stderr, ends)

    return run


@pytest.fixture(scope="session")
def warm():
    """``warm(request)``: a process that has imported all that training needs runs a request, and says how it ended."""
    command = [*PYTHON, str(PRESSED), "warm"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=os.environ | ALONE, **pipes) as process:

        def ask(request):
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield ask
        process.stdin.close()


@pytest.fixture
def kill_soon(warm, ends, tmp_path):
    """As ``kill``, without the seconds in which a process imports its libraries: for runs of training."""

    def run(where, call, *overrides):
        output = tmp_path / "killed.txt"
        typed = typed_there(where, call, [signal.SIGKILL], *overrides)
        code = warm({"typed": typed, "folder": str(tmp_path), "output": str(output)})
        assert code == -signal.SIGKILL, output.read_text()
        return started_and_ended(output.read_text(), ends)

    return run


def typed_there(where, call, numbers, *overrides):
    return [str(ROOT / "run.py"), where, str(call), ",".join(str(int(number)) for number in numbers), *overrides]


def started_and_ended(said, ends):
    """How many processes one that was killed had started, when they have ended too. ``said``: what it printed."""
    (line,) = (line for line in said.splitlines() if line.startswith("family:"))
    pids = [int(pid) for pid in line.split()[1:]]
    assert all(ends(pid) for pid in pids)
    return len(pids)
