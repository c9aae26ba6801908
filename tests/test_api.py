"""``import positronic``: the exported names, and stages without the command line."""

import ast
import inspect
import json
import os
import subprocess
import sys
import tomllib
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace
from importlib import import_module
from pathlib import Path

import pytest

import positronic
from positronic.schemas import STAGES, module_of
from positronic.stages.convert import Baked

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = ROOT / "tests" / "data" / "raw_v1"
SMALL = ["codec=ee_traj", "fps=1", "modality.image_size=[32,32]", "num_workers=1"]
NAMES = {"PositronicError", "__version__", "codec", "compose", "load_policy", "open_baked", "open_raw", "record", "run"}
# A script as people write them: nothing stands under ``if __name__ == "__main__"``.
SCRIPT = """
import sys
print("started", flush=True)
import positronic
baked = positronic.run(positronic.compose(sys.argv[1:]))
print("episodes:", baked.report.episodes)
"""


def convert(tmp_path, *overrides):
    return positronic.compose(
        ["stage=convert", f"dataset.path={PUBLISHED}", f"output_dir={tmp_path / 'baked'}", *overrides]
    )


def test_the_exported_names_are_these():
    """In ``__all__``, in ``dir()`` and for type checkers; what is added or removed is added or removed here."""
    assert set(positronic.__all__) == NAMES
    assert set(dir(positronic)) >= NAMES
    (block,) = [n for n in ast.parse(inspect.getsource(positronic)).body if isinstance(n, ast.If)]
    typed = {alias.asname or alias.name for node in block.body for alias in node.names}
    assert typed | {"__version__"} == NAMES


@pytest.mark.parametrize("name", sorted(NAMES - {"__version__"}))
def test_every_name_is_there_with_its_docstring(name):
    """Functions say what they raise, too."""
    found = getattr(positronic, name)
    assert found.__doc__
    assert inspect.isclass(found) or ("PositronicError" in found.__doc__ and inspect.signature(found).return_annotation)


def test_type_checkers_read_the_annotations():
    """The marker that PEP 561 asks for."""
    assert (Path(positronic.__file__).parent / "py.typed").is_file()


def test_an_unknown_name_is_an_attribute_error():
    """Late imports hide no misspelling."""
    with pytest.raises(AttributeError, match="no attribute 'open_row'"):
        positronic.open_row  # noqa: B018


def test_the_version_is_that_of_the_distribution():
    """It stands in two files, as nothing may be asked of the installation when the package is imported."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert positronic.__version__ == project["version"]


def test_importing_the_package_imports_nothing_else():
    """A robot has no Hydra and no torch, and must not wait."""
    code = (
        "import sys, positronic; print({'hydra', 'torch', 'numpy', 'rich'} & set(sys.modules), positronic.__version__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split()[0] == "set()"


@pytest.mark.parametrize("stage", sorted(set(STAGES) - {"serve"}))
def test_every_stage_returns_a_frozen_result_that_says_where_it_is(stage):
    """A typed value with a path; a server returns when it is ended."""
    module = import_module(f"positronic.stages.{module_of(stage)}")
    for name in inspect.signature(module.run).return_annotation.split(" | "):
        kind = getattr(module, name)
        assert is_dataclass(kind)
        assert kind.__dataclass_params__.frozen
        assert fields(kind)[0].name == "path"
        assert kind.__doc__


def test_a_stage_returns_its_result(tmp_path, capsys):
    """And prints as on the command line, with the next line of Python instead of the next command."""
    baked = positronic.run(convert(tmp_path, *SMALL))
    assert isinstance(baked, Baked)
    assert (baked.path, baked.report.episodes) == (str(tmp_path / "baked"), 3)
    with pytest.raises(FrozenInstanceError):
        baked.path = "elsewhere"
    last = capsys.readouterr().out.splitlines()[-1]
    following = last.removeprefix("  next:    positronic.run(positronic.compose(").removesuffix("))")
    config = positronic.compose(json.loads(following))
    assert (config.stage, config.codec.name, config.input_path) == ("train", "ee_traj", baked.path)
    assert config.modality.image_size == [32, 32]


def test_a_config_that_was_changed_runs_as_it_is_now(tmp_path, capsys):
    """The next line keeps what compose() was given, as nothing of the codec was changed."""
    config = convert(tmp_path, *SMALL)
    config.task = "another task"
    assert positronic.run(config).report.tasks == {
        "another task": positronic.open_baked(config.output_dir).manifest.frames
    }
    assert '"codec=ee_traj", "modality.image_size=[32,32]", "input_path=' in capsys.readouterr().out.splitlines()[-1]


def test_the_next_line_of_a_config_whose_codec_was_changed_has_dots(tmp_path, capsys):
    """Nobody can say what one would have to give to compose()."""
    config = convert(tmp_path, *SMALL)
    config.modality.image_size = [16, 16]
    assert positronic.run(config).report.episodes == 3
    assert '"modality.image_size=[32,32]", ..., "input_path=' in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: setattr(config, "fsp", 3), "'fsp' is not a parameter of stage=convert.*'fps'"),
        (lambda config: setattr(config.dataset, "pth", "x"), "'dataset.pth' is not a parameter.*'dataset.path'"),
        (lambda config: setattr(config, "fps", "many"), "fps: Value 'many'"),
        (lambda config: setattr(config, "fps", 0), "fps=0: expected a number from 1 on"),
        (lambda config: setattr(config.codec, "rotation", "euler"), "codec.rotation=euler: expected one of"),
        (lambda config: setattr(config.dataset, "path", "???"), "stage=convert needs dataset.path"),
        (lambda config: setattr(config, "profile", True), "profile=true.*cProfile"),
        (lambda config: setattr(config, "stage", "train"), "stage=train: found a Convert"),
    ],
)
def test_a_config_that_was_changed_wrongly_is_refused(tmp_path, change, message):
    """A plain attribute takes any name and value; nothing runs with them."""
    config = convert(tmp_path, *SMALL)
    change(config)
    with pytest.raises(positronic.PositronicError, match=message):
        positronic.run(config)
    assert not list(tmp_path.iterdir())


def test_overrides_are_composed_first():
    """The message has the line to type."""
    with pytest.raises(positronic.PositronicError, match=r"takes a config, found list.*positronic\.compose"):
        positronic.run(["stage=convert"])


def test_a_server_is_started_in_a_shell():
    """It takes a process of its own; the message has its command, and what to use here."""
    with pytest.raises(
        positronic.PositronicError, match=r"python run\.py stage=serve checkpoints_dir=x\n.*load_policy\(\"x\"\)"
    ):
        positronic.run(positronic.compose(["stage=serve", "checkpoints_dir=x"]))


def test_a_replaced_config_runs_too(tmp_path):
    """dataclasses.replace makes one that compose() knows nothing of."""
    config = replace(convert(tmp_path, *SMALL), output_dir=str(tmp_path / "other"))
    assert positronic.run(config).path == str(tmp_path / "other")


def test_a_script_without_a_guard_is_run_once(tmp_path):
    """Workers are started afresh, and do not run the user's script again."""
    script = tmp_path / "mine.py"
    script.write_text(SCRIPT)
    typed = [
        "stage=convert",
        f"dataset.path={PUBLISHED}",
        f"output_dir={tmp_path / 'baked'}",
        *SMALL[:-1],
        "num_workers=2",
    ]
    command, environment = [sys.executable, str(script), *typed], os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("started") == 1
    assert done.stdout.splitlines()[-1] == "episodes: 3"


def test_a_refusal_is_raised_and_nothing_exits(tmp_path):
    """run.py makes an exit code of it; a notebook goes on."""
    with pytest.raises(positronic.PositronicError, match="nowhere does not exist"):
        positronic.run(
            positronic.compose(["stage=convert", "dataset.path=nowhere", f"output_dir={tmp_path / 'baked'}"])
        )


@pytest.mark.parametrize(("embodiment", "size"), [("so101", 6), ("aloha", 14)])
def test_a_codec_of_another_robot(embodiment, size):
    """As many joints and grippers as it has."""
    assert positronic.codec("lerobot", "joints_cmd", embodiment).codec.action_size == size
