"""Config files of one's own, outside of the repository: ``--config-dir`` and ``compose(conf_dir=...)``."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import positronic
from positronic.errors import PositronicError

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "command_line.md").read_text()
CODEC, MODALITY = "codec/wrist_only.yaml", "modality/lerobot/wrist_only.yaml"


@pytest.fixture
def own(tmp_path):
    """The page's files, as the page has them, and a recording whose camera at the wrist has the other name."""
    for name, text in re.findall(r"```yaml\n# myconf/(\S+)\n(.*?)```", PAGE, re.DOTALL):
        path = tmp_path / "myconf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    shutil.copytree(ROOT / "tests" / "data" / "raw_v1", tmp_path / "data" / "raw" / "cups")
    for file in (tmp_path / "data").rglob("image.wrist.*"):
        file.rename(file.with_name(file.name.replace("wrist", "hand")))
    return tmp_path / "myconf"


def run_py(folder, *typed):
    """run.py as a program, ``folder`` being the home folder and the current one."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(folder)}
    command = [sys.executable, str(ROOT / "run.py"), *typed]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)


def test_the_page_s_codec_modality_and_dataset_convert_from_the_command_line(own, tmp_path):
    """As typed on the page, and with a folder that no shell expands; the next command names the folder, too."""
    first, second = re.findall(r"python run\.py (--config-dir .*)", PAGE)
    words = shlex.split(first.replace("--config-dir ~", "--config-dir=~"))
    done = run_py(tmp_path, *words, "fps=2", "num_workers=1")
    assert done.returncode == 0, done.stderr
    (output,) = (tmp_path / "data" / "baked").rglob("v3.0")
    baked = positronic.open_baked(output)
    assert (baked.recipe.codec.name, output.parts[-4]) == ("wrist_only", "cups")
    assert baked.image_shapes == {"observation.images.wrist": (96, 128, 3)}
    following = shlex.split(done.stdout.splitlines()[-1].replace("~", str(tmp_path)))
    assert following[1:4] == ["python", "run.py", "stage=train"]
    assert following[-2:] == ["--config-dir", str(own)]
    train = positronic.compose(following[3:-2], conf_dir=own)
    assert train.input_path == str(output.relative_to(tmp_path))
    by_page = positronic.compose(shlex.split(second)[2:], conf_dir=own)
    assert (by_page.input_path, by_page.modality) == (train.input_path, train.modality)


def test_an_own_codec_is_looked_at_in_python(own):
    """The same folder, the same pair."""
    recipe = positronic.codec("lerobot", "wrist_only", conf_dir=own, image_size=[48, 64])
    assert [column.name for column in recipe.modality.image_columns] == ["observation.images.wrist"]
    assert recipe.codec.images[0].shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (
            CODEC,
            ("state:", "stat:"),
            "codec/wrist_only.yaml: 'stat' is not a parameter of codec. Did you mean 'state'?",
        ),
        (CODEC, ("[ee_pose, grip]", "7"), "codec/wrist_only.yaml: state: "),
        (CODEC, ("[wrist]", "[wrist"), r"codec/wrist_only.yaml, line \d+: expected YAML, found an error in it"),
        (CODEC, ("- _base", "- _bse"), "codec/wrist_only.yaml builds on codec/_bse.yaml.* Did you mean '_base'?"),
        (
            CODEC,
            ("name: wrist_only", "name: wrist"),
            "expected name: wrist_only, as its file is called; found name: wrist",
        ),
        (CODEC, ("name: wrist_only\n", ""), "expected name: wrist_only, as its file is called; found no name"),
        (MODALITY, ("image_size", "defaults: [_base]\nimage_size"), "is written /modality/lerobot/_base@_here_"),
        (MODALITY, ("96", "-96"), "modality.image_size"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_sentence_with_the_file(own, tmp_path, file, change, message):
    """From the command line and in Python alike."""
    path = own / file
    text = path.read_text()
    path.write_text(text.replace(*change))
    assert path.read_text() != text
    typed = ["stage=convert", "codec=wrist_only"]
    with pytest.raises(PositronicError, match=message):
        positronic.compose(typed, conf_dir=own)
    done = run_py(tmp_path, *typed, "--config-dir", "myconf")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search(message, done.stderr)
    assert len(done.stderr.splitlines()) == 1


def test_help_says_which_file_is_no_yaml(own, tmp_path):
    """It composes, too."""
    (own / CODEC).write_text("images: [")
    done = run_py(tmp_path, "stage=convert", "codec=wrist_only", "--config-dir", "myconf", "--help")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)


@pytest.mark.parametrize("flag", [["--config-dir", "mycnf"], ["--config-dir=~/mycnf"]])
def test_a_folder_that_is_not_there_is_refused_before_hydra_is_asked(tmp_path, flag):
    """One line, with the folder."""
    done = run_py(tmp_path, "stage=convert", *flag)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"--config-dir \S*mycnf: there is no such folder\. .*\n", done.stderr)


def test_a_preset_that_chooses_a_codec_that_is_not_there_is_refused(own):
    """In one line, with the codecs that there are."""
    (own / "experiment").mkdir()
    (own / "experiment" / "mine.yaml").write_text("# @package _global_\ndefaults:\n  - override /codec: wrist_onyl\n")
    with pytest.raises(PositronicError, match=r"codec=wrist_onyl is not known\..* Did you mean 'wrist_only'\?$"):
        positronic.compose(["stage=convert", "+experiment=mine"], conf_dir=own)


@pytest.mark.parametrize("text", ["stages: {train: {seed: 3}}\n", "defaults:\n  - override /codec: joints\n"])
def test_a_preset_that_does_not_begin_as_one_is_refused_with_the_line(own, text):
    """Also where the line is there, but is not the first."""
    (own / "experiment").mkdir()
    (own / "experiment" / "mine.yaml").write_text("# mine\n# @package _global_\n" + text)
    with pytest.raises(PositronicError, match=r"expected '# @package _global_' as its first line\.$"):
        positronic.compose(["stage=train", "+experiment=mine"], conf_dir=own)
    (own / "experiment" / "mine.yaml").write_text("# @package _global_\n" + text)
    positronic.compose(["stage=train", "+experiment=mine"], conf_dir=own)


def test_a_pair_needs_both_files(own):
    """And the refusal counts one's own files among the valid ones."""
    with pytest.raises(
        PositronicError, match=r"codec=wrist_only has no gr00t modality.*wrist_only works with vendor=lerobot"
    ):
        positronic.compose(["stage=convert", "vendor=gr00t", "codec=wrist_only"], conf_dir=own)
