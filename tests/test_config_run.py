"""run.py: the same refusals in every way of composing, exit codes, what a run leaves behind."""

import errno
import json
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import hydra._internal.hydra
import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.types import RunMode

from positronic import composition, config
from positronic.composition import Loader
from positronic.errors import PositronicError
from positronic.stages import infer, train

# A module of this name is imported at every start of Python; it presses Ctrl-C as soon as another one is asked for.
PRESSES_CTRL_C = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "{}":
            os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Finder())
"""

ROOT = Path(__file__).resolve().parents[1]
WRONG = {
    "codec=droid": "codec=droid has no lerobot modality."
    " Valid codecs for vendor=lerobot: ee, ee_joints_cmd, ee_traj, joints, joints_cmd, joints_traj."
    " (droid works with vendor=openpi.)",
    "learning_rat=1": "Key 'learning_rat' is not a parameter of stage=train. Did you mean 'learning_rate'?",
    "dataset_root=x": "'dataset_root' is called 'input_path' here. Type input_path=x.",
    "dataset=local": "stage=train needs dataset.path. Type dataset.path=<folder of raw episodes>, or dataset=demo for"
    " the demonstrations of stage=collect.",
}


@pytest.fixture
def run_py(monkeypatch, tmp_path, capsys):
    """``run_py(arguments) -> exit code, stdout, stderr``: run.py as a program, in this process and an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hydra._internal.hydra, "ConfigLoaderImpl", ConfigLoaderImpl)  # run.py replaces it

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
        code = 0
        try:
            runpy.run_path(str(ROOT / "run.py"), run_name="__main__")
        except SystemExit as stop:
            code = stop.code
        out, error = capsys.readouterr()
        # The interpreter prints a code that is a text on stderr, and exits with 1.
        return (1, out, f"{error}{code}\n") if isinstance(code, str) else (code, out, error)

    yield run
    signal.signal(signal.SIGINT, signal.default_int_handler)  # run.py resets it until its stage begins


@pytest.fixture
def trained(monkeypatch):
    """Configs that reached stage=train, which does nothing else here."""
    configs = []
    monkeypatch.setattr(train, "run", configs.append)
    return configs


@pytest.fixture
def evaluated(monkeypatch):
    """Configs that reached stage=infer, which does nothing else here."""
    configs = []
    monkeypatch.setattr(infer, "run", configs.append)
    return configs


def loader():
    return Loader(create_config_search_path(str(ROOT / "conf")))


def jobs(folder):
    return sorted(path.parent for path in folder.glob("multirun/*/*/*/provenance.json"))


@pytest.mark.parametrize("typed", WRONG)
def test_a_run_and_its_config_dump_are_refused_alike(run_py, trained, typed):
    """One line on stderr, exit code 1, nothing ran, nothing was written."""
    assert run_py("stage=train", typed) == (1, "", WRONG[typed] + "\n")
    assert run_py("stage=train", typed, "--cfg", "job") == (1, "", WRONG[typed] + "\n")
    assert trained == []
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("typed", ["codec=ee,droid", "seed=1,2 learning_rat=1"])
def test_one_wrong_job_refuses_the_whole_multirun(run_py, trained, typed):
    """Before any job starts."""
    code, _, error = run_py("-m", "stage=train", *typed.split())
    assert code == 1
    assert len(error.splitlines()) == 1
    assert trained == []
    assert jobs(Path.cwd()) == []


def test_as_a_program_a_refusal_is_one_line_and_exit_code_1(tmp_path):
    """No traceback, and none of Hydra's words around it."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), "stage=train", "codec=droid"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr, done.stdout) == (1, WRONG["codec=droid"] + "\n", "")


@pytest.mark.parametrize(
    ("typed", "instead"),
    [("--seed=1", "seed=1, not --seed"), ("--num-workers", "num_workers=<value>, not --num-workers")],
)
def test_dashes_are_refused_with_what_to_type(run_py, trained, typed, instead):
    """As other programs have them; Hydra's own flags are known."""
    refused = f"Parameters are typed without dashes: {instead}.\n"
    assert run_py("stage=train", typed) == (1, "", refused)
    assert run_py("stage=train", "--cfg=job", "--res")[0] == 0
    assert trained == []


def test_flags_may_stand_between_overrides(run_py, trained, tmp_path):
    """As people type them; a value of a flag stays beside it."""
    folder = tmp_path / "more" / "dataset"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("defaults:\n  - local\n  - _self_\n\npath: /mine\n")
    (tmp_path / "data/baked/mine/lerobot/ee/v3.0/meta").mkdir(parents=True)  # else it would be baked first
    assert run_py("stage=train", "--config-dir", "more", "dataset=mine", "-r", "seed=3")[0] == 0
    assert (trained[0].seed, trained[0].input_path) == (3, "data/baked/mine/lerobot/ee/v3.0")
    assert composition._flags_last(["--info", "defaults", "a=1", "-m", "b=2"]) == [
        *("a=1", "b=2"),
        *("--info", "defaults", "-m"),
    ]


def test_a_multirun_s_own_config_is_that_of_its_first_job():
    """A part that is swept may decide whether the rest is right: seed is no parameter of the default stage."""
    overrides = ["stage=train,infer", "seed=3"]
    cfg = loader().load_configuration("config", overrides, RunMode.MULTIRUN)
    assert (cfg.stage, cfg.seed) == ("train", 3)
    assert cfg.hydra.overrides.task == overrides


def test_training_jobs_of_a_multirun_write_into_their_own_folders(run_py, trained):
    """The default output_dir is the job's folder, so that jobs never share one."""
    run_py("-m", "stage=train", "seed=1,2")
    assert [Path(config.output_dir) for config in trained] == jobs(Path.cwd())


def test_runs_of_one_second_have_folders_of_their_own(run_py, trained):
    """Whatever the clock says."""
    for _ in range(3):
        run_py("stage=train")
    assert len(list(Path.cwd().glob("outputs/*/*/provenance.json"))) == 3
    assert config._new_folder("a") == "a"
    assert [config._new_folder("a"), config._new_folder("a")] == ["a_2", "a_3"]


def test_a_sweep_that_is_resumed_says_which(run_py, trained):
    """Its jobs would begin anew in another folder."""
    code, _, error = run_py("-m", "stage=train", "seed=1,2", "resume=true")
    assert (code, trained) == (1, [])
    assert "hydra.sweep.dir=multirun/<date>/<time>" in error
    for _ in range(2):
        assert run_py("-m", "stage=train", "seed=1,2", "resume=true", "hydra.sweep.dir=sweep")[0] == 0
    assert [Path(job.output_dir).name for job in trained] == ["0", "1", "0", "1"]


def test_a_run_that_is_resumed_is_no_sweep(run_py, trained):
    """Hydra composes once as for a sweep, to learn which of both it is."""
    assert run_py("stage=train", "resume=true")[0] == 0
    assert [job.resume for job in trained] == [True]


def test_an_output_dir_that_was_typed_stays_in_a_multirun():
    """What is typed wins."""
    job = ["hydra.mode=MULTIRUN", "stage=train", "output_dir=/x"]
    assert loader().load_configuration("config", job, RunMode.RUN).output_dir == "/x"


def test_a_bake_in_a_multirun_lands_where_train_looks_for_it():
    """Data that later stages find by its name does not hide in a job's folder."""
    job = ["hydra.mode=MULTIRUN", "stage=convert", "paths.root=/r"]
    assert loader().load_configuration("config", job, RunMode.RUN).output_dir == "/r/baked/demo/lerobot/ee/v3.0"


def test_a_run_saves_where_it_came_from(run_py, trained):
    """Resolved config, overrides, commit, versions; and Hydra's own files beside them."""
    assert run_py("stage=train", "codec=joints", "seed=3")[0] == 0
    (folder,) = Path.cwd().glob("outputs/*/*_train")
    record = json.loads((folder / "provenance.json").read_text())
    assert record["overrides"] == ["stage=train", "codec=joints", "seed=3"]
    assert record["config"]["input_path"] == "data/baked/demo/lerobot/joints/v3.0"
    assert record["versions"]["hydra-core"] == "1.3.8"
    assert {"commit", "dirty"} <= set(record)
    assert (folder / ".hydra" / "overrides.yaml").exists()


TOKEN = "hunter2,it's"
SECRET = f"policy.token={TOKEN}"


def files_of(folder):
    """Every file below ``folder`` by its name there, as lines."""
    return {str(p.relative_to(folder)): p.read_text().splitlines() for p in folder.rglob("*") if p.is_file()}


def test_a_token_is_not_saved(run_py, evaluated):
    """Secrets do not end up beside the results, neither in our file nor in Hydra's."""
    run_py("stage=infer", "seed=3", "policy.token=public", "hydra.run.dir=other")
    run_py("stage=infer", "seed=3", SECRET, "hydra.run.dir=this")
    with_other, hidden = files_of(Path("other")), files_of(Path("this"))
    assert evaluated[1].policy.token == TOKEN
    assert "hunter2" not in json.dumps(hidden)
    assert hidden["provenance.json"] == with_other["provenance.json"]
    assert hidden[".hydra/config.yaml"] == with_other[".hydra/config.yaml"]
    assert hidden[".hydra/overrides.yaml"] == ["- stage=infer", "- seed=3", "- policy.token=..."]
    assert "    override_dirname: policy.token=...,seed=3,stage=infer" in hidden[".hydra/hydra.yaml"]


def test_hiding_a_token_changes_nothing_else(run_py, evaluated, monkeypatch):
    """Line for line what Hydra wrote."""
    run_py("stage=infer", "driver.action_fps=1e1", SECRET, "hydra.run.dir=run")
    hidden = files_of(Path("run/.hydra"))
    monkeypatch.setattr(config, "_hide_secrets", lambda *unused: None)
    run_py("stage=infer", "driver.action_fps=1e1", SECRET, "hydra.run.dir=run")
    for name, lines in files_of(Path("run/.hydra")).items():
        pairs = list(zip(hidden[name], lines, strict=True))
        assert all(mine == theirs or ("token" in mine and "hunter2" in theirs) for mine, theirs in pairs)
        assert any(mine != theirs for mine, theirs in pairs)


def test_a_multirun_hides_a_token_too(run_py, evaluated):
    """In each job's folder, and in the sweep's own file."""
    assert run_py("-m", "stage=infer", "seed=1,2", "policy={token: hunter2}")[0] == 0
    assert [job.policy.token for job in evaluated] == ["hunter2", "hunter2"]
    assert len(list(Path("multirun").rglob("*.yaml"))) == 7
    assert "hunter2" not in json.dumps(files_of(Path("multirun")))


def test_a_mistake_found_by_the_stage_is_its_message_and_exit_code_1(run_py, monkeypatch):
    """The same manners as at composition."""
    monkeypatch.setattr(train, "run", fail_with(PositronicError("No dataset there. Type this.")))
    assert run_py("stage=train") == (1, "", "No dataset there. Type this.\n")


def test_a_full_disk_is_a_message_and_exit_code_1(run_py, monkeypatch):
    """Whatever the stage was about to write."""
    monkeypatch.setattr(train, "run", fail_with(OSError(errno.ENOSPC, "", "/data/x")))
    code, _, error = run_py("stage=train")
    assert (code, error.startswith("No space left on device (/data/x). What")) == (1, True)


def test_a_mistake_in_one_job_leaves_the_other_jobs_running(run_py, monkeypatch):
    """The multirun ends with exit code 1 and the message of the job that failed."""
    seen = []

    def train_unless_first(config):
        seen.append(config.seed)
        if config.seed == 1:
            raise PositronicError("Seed 1 is unlucky.")

    monkeypatch.setattr(train, "run", train_unless_first)
    code, _, error = run_py("-m", "stage=train", "seed=1,2")
    assert (code, seen) == (1, [1, 2])
    assert "Seed 1 is unlucky." in error
    assert "Traceback" not in error


def test_ctrl_c_is_one_line_and_exit_code_130(run_py, monkeypatch):
    """What a shell expects of an interrupted program."""
    monkeypatch.setattr(train, "run", fail_with(KeyboardInterrupt()))
    assert run_py("stage=train") == (130, "", "Interrupted: stage=train.\n")


@pytest.mark.parametrize("imported", ["hydra", "positronic.composition", "positronic.bake.convert"])
def test_ctrl_c_before_the_stage_runs_ends_without_a_traceback(tmp_path, imported):
    """While modules are imported and the config is composed. Once the stage runs, it says that it was interrupted."""
    (tmp_path / "sitecustomize.py").write_text(PRESSES_CTRL_C.format(imported))
    done = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), "stage=convert"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    expected = (130, "Interrupted: stage=convert.\n") if "bake" in imported else (-signal.SIGINT, "")
    assert (done.returncode, done.stderr) == expected


def test_the_profile_preset_writes_where_the_time_went(run_py, trained):
    """By function, in the run's folder."""
    run_py("stage=train", "+debug=profile")
    (profile,) = Path.cwd().glob("outputs/*/*/profile.txt")
    assert "cumulative" in profile.read_text()


def test_help_lists_every_choice_and_no_older_name(run_py):
    """Also of a stage whose missing values are not typed yet."""
    code, text, _ = run_py("stage=serve", "--help")
    assert code == 0
    assert "\ncodec: droid, ee, ee_joints, " in text
    assert "\ncheckpoints_dir: ???\n" in text
    assert "\n  checkpoints_dir: an experiment's folder, the one that holds checkpoints/, or a\n" in text
    assert "\n  server.port: from 1024 on; 0 takes a free one\n" in text
    assert "eepose_absolute" not in text
    assert "schema" not in text


def test_tab_completion_offers_the_choices(run_py, monkeypatch):
    """The same lists as help."""
    monkeypatch.setenv("COMP_LINE", "python run.py stage=train codec=j")
    _, words, _ = run_py("-sc", "query=bash")
    assert words.split() == ["codec=joints", "codec=joints_cmd", "codec=joints_traj"]


def test_composing_imports_nothing_heavy():
    """--help, --cfg job and refusals answer at once, and without a graphics or deep learning library installed."""
    heavy = ["torch", "lerobot", "mujoco", "litserve", "av", "pyarrow", "numpy", "submitit", "wandb", "fsspec"]
    code = (
        "import sys; import positronic; positronic.compose(['stage=train']);"
        f" print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def fail_with(error):
    def run(config):
        raise error

    return run
