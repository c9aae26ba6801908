"""Whatever ends a bake early, nothing is left that looks like a dataset."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from positronic import keys
from positronic.bake.convert import BakeOptions, bake
from positronic.raw.dataset import open_dataset
from positronic.raw.layout import episode_path
from positronic.storage import partial_path

PUBLISHED = Path(__file__).parents[1] / "data" / "raw_v1"
COPIES = 60
BAKE = """
import sys
import positronic
from positronic.bake.convert import BakeOptions, Progress, bake
from positronic.codecs.build import build
from positronic.raw.dataset import open_dataset

class Tell(Progress):
    def episode_done(self, done):
        if done == 2:
            print("under way", flush=True)

if __name__ == "__main__":
    raw, output, workers = sys.argv[1:]
    config = positronic.compose(["stage=convert", "vendor=lerobot", "codec=ee", "dataset.path=unused"])
    options = BakeOptions("lerobot", num_workers=int(workers))
    bake(open_dataset(raw), build(config.codec, config.modality), output, options, {}, Tell())
"""


@pytest.fixture
def raw(tmp_path):
    """More episodes than are baked before the signal comes."""
    for number in range(COPIES):
        shutil.copytree(episode_path(PUBLISHED, number % 3), episode_path(tmp_path / "raw", number))
    return tmp_path / "raw"


@pytest.fixture
def under_way(tmp_path, raw):
    """Starts a bake in a process group of its own and waits until two episodes are done."""
    script, started = tmp_path / "bake.py", []
    script.write_text(BAKE)

    def start(workers):
        command = [sys.executable, script, raw, tmp_path / "out" / "baked", str(workers)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        started.append(process)
        assert process.stdout.readline() == "under way\n"
        assert (partial_path(tmp_path / "out" / "baked") / "data").exists()
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_leaves_nothing(under_way, tmp_path, workers):
    """SIGINT to the whole group, as a terminal sends it: no dataset, no temporary folder, no process."""
    process = under_way(workers)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(120) != 0
    assert list((tmp_path / "out").iterdir()) == []
    assert process.stdout.read() == ""  # comes to its end when the last process that could write has ended


def test_a_kill_leaves_only_what_the_next_bake_removes(under_way, tmp_path, raw, recipe):
    """SIGKILL: the hidden folder stays, is no dataset, and is gone after the next bake, which succeeds."""
    process, output = under_way(2), tmp_path / "out" / "baked"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert list((tmp_path / "out").iterdir()) == [partial_path(output)]
    assert not (partial_path(output) / keys.MANIFEST_FILE).exists()
    bake(open_dataset(raw)[:2], recipe(), output, BakeOptions("lerobot", num_workers=1), {})
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["baked"]
    assert (output / keys.MANIFEST_FILE).exists()
    assert not list(output.glob(".*"))
