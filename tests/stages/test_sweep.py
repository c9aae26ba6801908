"""stage=sweep shows the table of a sweep at any time, and says of a folder that is none what was expected."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from cluster.sweeps import ended, sweep_in, trained

import positronic
from positronic.errors import PositronicError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working folder, with two sweeps in it."""
    monkeypatch.chdir(tmp_path)
    for name in ("2026-01-02/03-04-05_act", "2026-01-10/03-04-05_act"):
        folder = Path("multirun", name)
        sweep_in(folder, {"seed": "0"}, {"seed": "1"}, job_ids=False)
        trained(folder / "0", 20, 20, checkpoints=(20,))
        ended(folder / "0", "finished")
        ended(folder / "1", "failed", exit_code=1, lines=["it broke"])
    return tmp_path


def show(*overrides):
    return positronic.run(positronic.compose(["stage=sweep", *overrides]))


def refusal(*overrides):
    with pytest.raises(PositronicError) as refused:
        show(*overrides)
    return str(refused.value)


def test_the_newest_sweep_is_shown_if_none_is_named(here, capsys):
    swept = show()
    assert swept.path == "multirun/2026-01-10/03-04-05_act"
    assert [result.report.state for result in swept.results] == ["finished", "failed"]
    assert "it broke" in capsys.readouterr().out


def test_the_table_is_a_file_of_the_sweep_too(here):
    folder = Path(show("sweep=multirun/2026-01-02/03-04-05_act").path)
    assert {path.name for path in folder.glob("sweep.*")} == {"sweep.json", "sweep.csv", "sweep.png", "sweep.html"}


def test_a_sweep_is_watched_until_its_jobs_have_ended(here, capsys):
    show("watch=true")
    assert "1 failed, 1 finished (2 jobs)" in capsys.readouterr().out


def test_the_table_is_shown_where_there_is_no_slurm(here):
    """On another machine, in a process of its own, as it is typed."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PATH": "/nowhere"}
    command = [sys.executable, "-P", str(ROOT / "run.py"), "stage=sweep"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "act: 1 failed, 1 finished (2 jobs)" in done.stdout
    assert "python run.py stage=serve checkpoints_dir=multirun/2026-01-10/03-04-05_act/0/lerobot_ee" in done.stdout
    assert "python run.py stage=sweep sweep=multirun/2026-01-10/03-04-05_act resubmit=failed" in done.stdout


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("nothing", "there is no such folder. Expected one like multirun/<date>/<time>_<name>; the newest is"),
        ("multirun/2026-01-10/03-04-05_act/0", "inside of a sweep. Type sweep=multirun/2026-01-10/03-04-05_act."),
        ("multirun/2026-01-10/03-04-05_act/0/lerobot_ee", "Type sweep=multirun/2026-01-10/03-04-05_act."),
        ("multirun", "is no sweep, but has some below. Type one of them: multirun/2026-01-02/03-04-05_act, multirun"),
        ("empty", "holds no sweep: there is no sweep.json."),
    ],
)
def test_a_folder_that_is_no_sweep_is_refused_with_what_to_type(here, typed, said):
    Path("empty").mkdir()
    assert said in refusal(f"sweep={typed}")


def test_where_there_is_no_sweep_yet_it_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refusal().startswith("There is no sweep in multirun/ yet.")


def test_a_damaged_sweep_is_named(here):
    path = Path("multirun/2026-01-10/03-04-05_act/sweep.json")
    path.write_text(path.read_text()[:50])
    assert f"{path} cannot be read" in refusal()


def test_jobs_that_failed_are_run_again_and_go_on_to_the_end(tmp_path, monkeypatch):
    """What they run is the code that the sweep holds; here it ends well once a file is there."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "run.py").write_text("import pathlib, sys; sys.exit(not pathlib.Path('mended').exists())")
    sweep = sweep_in(tmp_path, {"seed": "0"}, {"seed": "1"}, job_ids=False)
    replace(sweep, snapshot=str(tmp_path / "code")).write()
    ended(tmp_path / "0", "finished")
    ended(tmp_path / "1", "failed", exit_code=1)
    (tmp_path / "mended").touch()
    swept = show(f"sweep={tmp_path}", "resubmit=failed", "watch=true")
    assert [result.report.state for result in swept.results] == ["finished", "finished"]
    assert len(swept.results[1].report.attempts) == 2
    assert "resubmit=0: this job has finished" in refusal(f"sweep={tmp_path}", "resubmit=[0]")
    assert "resubmit=7:" in refusal(f"sweep={tmp_path}", "resubmit=7")
