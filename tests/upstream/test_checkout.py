"""A checkout is refused in one sentence, with the command that helps, before anything of it runs."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from positronic.errors import PositronicError
from positronic.upstream import checkout
from positronic.upstream.checkout import Repository, find_checkout

SETUP = "git clone <address> {folder} && uv sync"
REPOSITORY = Repository(
    name="Isaac-Toy",
    folder="../Isaac-Toy",
    markers=("toy/launch.py",),
    modules=("json", "numpy"),
    packages=("numpy", "isaac-toy"),
    setup=SETUP,
)


@pytest.fixture
def repo(tmp_path):
    """A checkout whose interpreter calls ours."""
    folder = tmp_path / "Isaac-Toy"
    (folder / "toy").mkdir(parents=True)
    (folder / "toy" / "launch.py").touch()
    (folder / ".venv" / "bin").mkdir(parents=True)
    python = folder / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return folder


def git(folder, *arguments):
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    return subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def interpreter(repo, text):
    (repo / ".venv" / "bin" / "python").write_text(f"#!/bin/sh\n{text}\n")


def test_a_checkout_is_found_beside_the_working_directory(repo, tmp_path, monkeypatch):
    """Absolute, since children run elsewhere; outside of git the packages' versions are all that is known."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    found = find_checkout(REPOSITORY)
    assert (found.repo, found.python) == (repo, repo / ".venv" / "bin" / "python")
    assert (found.source.commit, found.source.dirty) == (None, None)
    assert found.source.versions["numpy"].startswith("2.")
    assert found.source.versions["isaac-toy"] is None
    assert str(found.source).startswith("Isaac-Toy (no git checkout, numpy 2.")


def test_commit_and_changes_are_recorded(repo):
    """For the manifest."""
    git(repo, "init", "--quiet")
    git(repo, "add", "toy")
    git(repo, "commit", "--quiet", "--message", "one")
    source = find_checkout(REPOSITORY, str(repo)).source
    assert (source.commit, source.dirty) == (git(repo, "rev-parse", "HEAD").strip(), False)
    (repo / "toy" / "launch.py").write_text("changed")
    changed = find_checkout(REPOSITORY, str(repo)).source.to_dict()
    assert (changed["commit"], changed["dirty"]) == (source.commit, True)


def test_a_folder_inside_another_checkout_has_no_commit(repo):
    """The commit around it says nothing of an unpacked archive."""
    git(repo.parent, "init", "--quiet")
    assert find_checkout(REPOSITORY, str(repo)).source.commit is None


def test_a_missing_checkout_is_refused(tmp_path):
    """With the command that makes it there."""
    with pytest.raises(PositronicError) as refused:
        find_checkout(REPOSITORY, str(tmp_path / "none"))
    assert "Isaac-Toy is not at" in str(refused.value)
    assert "vendor.repo=<folder>" in str(refused.value)
    assert str(refused.value).endswith(f"git clone <address> {tmp_path / 'none'} && uv sync")


def test_another_folder_is_refused(repo):
    """It has none of the files that the checkout has."""
    (repo / "toy" / "launch.py").unlink()
    with pytest.raises(PositronicError, match=r"is no checkout of Isaac-Toy: it has no toy/launch.py\."):
        find_checkout(REPOSITORY, str(repo))


def test_a_missing_interpreter_is_refused(repo):
    """The environment was not made."""
    (repo / ".venv" / "bin" / "python").unlink()
    with pytest.raises(PositronicError, match=r"has no interpreter .*/bin/python\. .*vendor.python=<path>:\n  git"):
        find_checkout(REPOSITORY, str(repo))


def test_another_interpreter_may_be_named(repo):
    """It is asked, not the environment's."""
    interpreter(repo, "exit 1")
    assert str(find_checkout(REPOSITORY, str(repo), sys.executable).python) == os.path.abspath(sys.executable)


def test_missing_packages_are_refused(repo):
    """Even if a folder of that name lies in the checkout: scripts in its folders would not find it."""
    (repo / "isaac_toy").mkdir()
    (repo / "isaac_toy" / "__init__.py").touch()
    needs = replace(REPOSITORY, modules=("numpy", "isaac_toy", "isaac_engine"))
    with pytest.raises(PositronicError, match="does not find isaac_engine, isaac_toy, which Isaac-Toy needs"):
        find_checkout(needs, str(repo))


def test_an_unknown_version_is_refused(repo):
    """In the vendor's own words."""
    old = replace(REPOSITORY, refuses=lambda source: "Check out main." if source.commit is None else None)
    with pytest.raises(PositronicError, match=r"is Isaac-Toy \(no git checkout.*\), Python 3\S+ Check out main\."):
        find_checkout(old, str(repo))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("echo damaged >&2; exit 3", "ended with exit code 3: damaged"),
        ("echo hello", "is no Python interpreter"),
    ],
)
def test_a_broken_interpreter_is_refused(repo, text, why):
    """Its last line is told."""
    interpreter(repo, text)
    with pytest.raises(PositronicError, match=rf"the interpreter of Isaac-Toy, {why}"):
        find_checkout(REPOSITORY, str(repo))


def test_an_interpreter_that_does_not_answer_is_refused(repo, monkeypatch):
    """On a file system that hangs."""
    monkeypatch.setattr(checkout, "PROBE_SEC", 0.1)
    interpreter(repo, "exec sleep 600")
    with pytest.raises(PositronicError, match="did not answer within 0.1 s"):
        find_checkout(REPOSITORY, str(repo))


def test_what_an_environment_prints_at_its_start_does_not_disturb(repo):
    """A sitecustomize may greet."""
    interpreter(repo, f'echo hello\nexec {sys.executable} "$@"')
    assert find_checkout(REPOSITORY, str(repo)).repo == repo
