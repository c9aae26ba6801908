"""The pages say what the code does."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import positronic
from positronic import overrides, sweeps

REPOSITORY = Path(__file__).parents[1]
PITFALLS = (REPOSITORY / "docs" / "pitfalls.md").read_text()
GUARDS = re.findall(r"`(tests/\S+\.py)::(\w+)`", PITFALLS)


def test_the_pages_of_codecs_and_embodiments_are_what_the_configs_say():
    """`make docs` would change nothing."""
    command = [sys.executable, "scripts/make_docs.py", "--check"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_robot_of_the_embodiments_page_is_one(tmp_path):
    """As it stands there, in a folder of one's own."""
    page = (REPOSITORY / "docs" / "embodiments.md").read_text()
    text = re.search(r"```yaml\n# myconf/(embodiment/labarm.yaml)\n(.*?)```", page, re.DOTALL)
    (tmp_path / "embodiment").mkdir()
    (tmp_path / text[1]).write_text(text[2])
    typed = ["stage=convert", "embodiment=labarm", "codec=joints_cmd", "dataset.path=unused"]
    config = positronic.compose(typed, conf_dir=tmp_path)
    assert list(config.embodiment.arms["arm"].joints) == ["base", "shoulder", "elbow", "wrist"]


@pytest.mark.parametrize(("file", "name"), GUARDS, ids=lambda value: str(value).removeprefix("tests/"))
def test_every_pitfall_names_a_test_that_exists(file, name):
    """A guard that was renamed or removed is missed here."""
    assert f"def {name}(" in (REPOSITORY / file).read_text()


def test_every_pitfall_has_its_guard():
    """Each row of the table ends with a test."""
    rows = [line for line in PITFALLS.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == len(GUARDS) > 10


def commands():
    """The overrides of each command of the pages' bash blocks, sweeps excepted; a placeholder is some value."""
    for page in (REPOSITORY / "README.md", *sorted(REPOSITORY.glob("docs/*.md"))):
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL):
            for line in re.findall(r"python run\.py (stage=\w.*)", block):
                typed = [word for word in shlex.split(line, comments=True) if word not in ("...", "&")]
                yield shlex.join(re.sub(r"\.\.\.$|<.*>", "x", word) for word in typed)


def sweeps_of_jobs():
    """The words of each command of the pages that makes jobs; a site's own file is left out."""
    for page in (REPOSITORY / "README.md", *sorted(REPOSITORY.glob("docs/*.md"))):
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL):
            for line in re.findall(r"^python run\.py (?:--config-dir \S+ )?(\+cluster=.*)", block, re.MULTILINE):
                yield re.sub(r"\+cluster=ours", "+cluster=slurm", line)


@pytest.mark.parametrize("line", sorted(set(sweeps_of_jobs())))
def test_every_job_of_the_pages_composes(line):
    """With its cluster's values."""
    words = shlex.split(line, comments=True)
    for job in sweeps._grid(overrides.parse(overrides.in_grammar(words, True))):
        assert positronic.compose([override.input_line for override in job]).stage in line


@pytest.mark.parametrize("line", sorted(set(commands())))
def test_every_command_of_the_pages_composes(line):
    """Names of parameters and choices are those of the code."""
    assert positronic.compose(shlex.split(line)).stage in line


@pytest.mark.parametrize("page", ["README.md", *(str(p.relative_to(REPOSITORY)) for p in REPOSITORY.glob("docs/*.md"))])
def test_links_between_pages_lead_somewhere(page):
    """Every relative link names a file of the repository."""
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", (REPOSITORY / page).read_text()):
        assert ((REPOSITORY / page).parent / target).exists(), target
