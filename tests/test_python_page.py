"""docs/python.md, run block by block as a notebook's kernel runs its cells."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest

import positronic
from positronic.bake.reader import open_baked
from positronic.training.checkpoints import find_checkpoint

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "python.md").read_text()
CELLS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
# As in a kernel: no file behind ``__main__``, foreign arguments, a running event loop; the last expression is shown.
KERNEL = """
import ast, asyncio, json, sys
cells = json.loads(sys.argv[1])
sys.argv = ["ipykernel_launcher.py", "-f", "stage=serve"]
names = {"__name__": "__main__"}

def show(value):
    ways = (getattr(value, name, None) for name in ("_repr_html_", "_repr_png_"))
    html = next((str(shown) for way in ways if way and (shown := way())), "")
    print("shown:", json.dumps([type(value).__name__, html, repr(value)]))

async def kernel():
    for number, cell in enumerate(cells):
        tree = ast.parse(cell)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, f"<cell {number}>", "exec"), names)
        if last is not None:
            show(eval(compile(ast.Expression(last.value), f"<cell {number}>", "eval"), names))
    from hydra.core.global_hydra import GlobalHydra
    assert not GlobalHydra.instance().is_initialized()

asyncio.run(kernel())
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """What the page's cells printed, and the folder that they ran in."""
    folder = tmp_path_factory.mktemp("notebook")
    shutil.copytree(ROOT / "tests" / "data" / "raw_v1", folder / "data" / "raw" / "demo")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KERNEL, json.dumps(CELLS)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout, folder


def shown(out):
    return [json.loads(line.removeprefix("shown: ")) for line in out.splitlines() if line.startswith("shown: ")]


def test_every_cell_runs_and_shows_what_it_ends_with(ran):
    """From the recording to an evaluated policy; what holds a contract is shown as a table."""
    kinds = [kind for kind, _, _ in shown(ran[0])]
    assert len(kinds) == sum(isinstance(ast.parse(cell).body[-1], ast.Expr) for cell in CELLS)
    tables = {kind: html for kind, html, _ in shown(ran[0]) if html}
    assert tables.keys() == {"Episode", "Picture", "Recipe", "BakedDataset", "LocalPolicy", "Evaluated"}
    assert "PNG" in tables["Picture"][:10]
    for kind, word in (
        ("Episode", "image.wrist"),
        ("Recipe", "observation.state"),
        ("BakedDataset", "5 fps"),
        ("LocalPolicy", "observation.state"),
    ):
        assert word in tables[kind]
    assert "replayed 1 recording" in tables["Evaluated"]
    assert all(len(text) < 1000 for _, _, text in shown(ran[0]))


def test_the_page_leaves_what_it_says_and_no_folder_of_hydra(ran):
    """A bake, a checkpoint, rollouts, a picture."""
    out, folder = ran
    assert {path.name for path in folder.iterdir()} == {"data", "episode.png"}
    assert open_baked(folder / "data/baked/demo/lerobot/ee/v3.0").fps == 5
    assert find_checkpoint(folder / "data/checkpoints/lerobot/tiny", 4).step == 4
    assert len(positronic.open_raw(folder / "data/rollouts/tiny")) == 1
    assert "Did you mean 'joints'?" in out


def test_the_next_lines_are_lines_of_python_that_run(ran):
    """After the bake the training of the same codec; a server is started in a shell."""
    lines = [line.removeprefix("  next:    ") for line in ran[0].splitlines() if line.startswith("  next:")]
    (typed,) = re.findall(r"positronic\.run\(positronic\.compose\((\[.*\])\)\)", lines[0])
    config = positronic.compose(ast.literal_eval(typed))
    assert (config.stage, config.input_path) == ("train", "data/baked/demo/lerobot/ee/v3.0")
    assert config.modality.image_size == [96, 96]
    assert lines[1] == "python run.py stage=serve checkpoints_dir=data/checkpoints/lerobot/tiny"


def test_the_page_names_everything_that_is_exported():
    """And nothing else."""
    named = re.findall(r"^\| `(\w+)[`(]", PAGE.partition("## Run stages")[0], re.MULTILINE)
    assert sorted(named) == sorted(positronic.__all__)


def test_the_page_names_what_each_stage_returns():
    """The result's class, and its fields and properties."""
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (.*) \|$", PAGE, re.MULTILINE)
    assert rows
    for stage, name, said in rows:
        module = import_module(f"positronic.stages.{stage}")
        assert name in signature(module.run).return_annotation.split(" | ")
        result = getattr(module, name)
        words = {word for text in re.findall(r"`([^`]+)`", said) for word in text.split() if word.isidentifier()}
        assert {field.name for field in fields(result)} <= words
        assert all(hasattr(result, word) or word in result.__annotations__ for word in words - {"report=true"})
