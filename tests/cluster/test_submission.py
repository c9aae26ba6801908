"""A grid becomes jobs, each with the command that a person would type for that run alone; or it is refused, and nothing
is left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import positronic
from positronic import overrides as typed_overrides
from positronic import sweeps
from positronic.cluster import checks, submission
from positronic.cluster import slurm as slurm_jobs
from positronic.cluster.config import SlurmConfig
from positronic.cluster.record import CANCELLED, FAILED, FINISHED, KILLED, JobState, Submitted, Sweep, Task, read_job
from positronic.cluster.snapshot import take_snapshot
from positronic.cluster.warden import RESUMABLE, command, environment, may_resume, state_after
from positronic.errors import PositronicError
from positronic.schemas import STAGES

ROOT = Path(__file__).resolve().parents[2]
SENTENCE = "pick \"it\", [then] {stop}; a=b, 'so' \\ 拿起\nand $HOME"
RAW = ROOT / "tests/data/raw_v1"
# In place of run.py: says, waits until it is told to end, ends as it is told.
SCRIPT = """
import os, signal, sys, time
told = dict(word.partition("=")[::2] for word in sys.argv[1:])
def save(*_):
    print("saved")
    sys.exit(130)
signal.signal(signal.SIGTERM, save)
if "say" in told:
    print(told["say"])
if "kill" in told:
    os.kill(os.getpid(), int(told["kill"]))
if "wait" in told:
    print("waiting", flush=True)
    time.sleep(100)
sys.exit(int(told.get("exit", 0)))
"""
RUN = [sys.executable, str(ROOT / "run.py")]


def alone(*typed):
    """What each job of a typed grid is told."""
    parsed = typed_overrides.parse(typed_overrides.in_grammar(list(typed), True))
    return [sweeps._alone(job) for job in sweeps._grid(parsed)]


@pytest.fixture
def typed_in(tmp_path):
    """``typed_in(*words)``: run.py in an empty folder; what it said and left."""

    def run(*words, environ=None):
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | (environ or {})
        return subprocess.run(
            [*RUN, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200
        )

    return run


def test_each_job_has_what_is_typed_for_it_alone():
    """What is about the jobs together is left out."""
    typed = [
        "+cluster=slurm",
        "cluster.mem_gb=8",
        "sweep.wait=false",
        "stage=train",
        "vendor=lerobot,gr00t",
        "seed=1,2",
    ]
    assert alone(*typed) == [
        ["stage=train", f"vendor={vendor}", f"seed={seed}"] for vendor in ("lerobot", "gr00t") for seed in (1, 2)
    ]


@pytest.mark.parametrize("text", [SENTENCE, "${paths.root}, b", "null", "a,b", "'q'", "[1, 2", "x${", "", r"\${x}"])
def test_a_sentence_arrives_in_each_job_as_it_was_typed(text):
    """In the grid and in the job's own command it is the same value."""
    (in_grid,) = typed_overrides.parse(typed_overrides.in_grammar([f"task={text}"], True))
    ((_, word),) = alone("stage=convert", f"task={text}")
    (in_job,) = typed_overrides.parse(typed_overrides.in_grammar([word], False))
    assert in_job.value() == in_grid.value()


def test_a_list_of_sentences_is_swept():
    """A JSON list of texts."""
    jobs = alone("stage=convert", f"task={json.dumps([SENTENCE, 'stop, now'])}")
    assert [job[1] for job in jobs] == [f"task={SENTENCE}", "task=stop, now"]


def test_trainings_of_a_sweep_are_one_group_at_weights_and_biases(tmp_path):
    """It stands in each recorded command; one that was typed stays."""
    train = ["stage=train", f"dataset.path={RAW}", "output_dir=out"]
    typed = [[*train, "tracker=wandb"], [*train, "tracker=wandb", "tracker.group=mine"], train]
    tasks = sweeps.tasks_in(tmp_path / "2026-01-02" / "03-04-05_act", typed, [], [])
    groups = [[each for each in task.arguments if each.startswith("tracker.group")] for task in tasks[-3:]]
    assert groups == [["tracker.group=2026-01-02_03-04-05_act"], ["tracker.group=mine"], []]


WRONG = {
    "cluster.partition=nosuch": "cluster.partition=nosuch: there is no such partition. sinfo names main, short.",
    "cluster.partition=short": "is more than partition short allows. Type cluster.timeout_min=10 or less",
    "cluster.gpus_per_node=1": "no node of partition main has more than 0 GPUs",
    "cluster.cpus_per_task=65": "no node of partition main has more than 64 cores",
    "cluster.mem_gb=65": "no node of partition main has more than 64 GB of memory",
    "cluster.mem_gb=1,2": "cluster.mem_gb is one value for all jobs of a command",
    "codec=ee,droid": "codec=droid has no lerobot modality",
    "output_dir=out": "Jobs 0 and 1 would both write into out/lerobot_ee",
    "dataset.path=nowhere": "dataset.path=nowhere: there is nothing. Expected a folder of raw episodes",
}


@pytest.mark.parametrize("typed", WRONG)
def test_a_sweep_is_refused_as_a_whole_and_leaves_nothing_behind(slurm, typed_in, tmp_path, typed):
    """In sentences, before anything is submitted."""
    recording = [] if typed.startswith("dataset.path") else [f"dataset.path={RAW}"]
    done = typed_in("+cluster=slurm", "stage=train", "seed=0,1", *recording, typed)
    assert done.returncode == 1
    assert WRONG[typed] in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("typed", ["cluster.mem_gb=8", "sweep.wait=false"])
def test_values_of_a_cluster_are_refused_without_one(typed):
    """They would do nothing."""
    with pytest.raises(PositronicError, match="counts only with .cluster=slurm or .cluster=local_parallel"):
        positronic.compose(["stage=train", typed])


def test_a_secret_is_not_written_into_the_folder_of_a_sweep():
    """A reference to the environment is what to type."""
    with pytest.raises(PositronicError, match=r"type 'policy.token=\$\{oc.env:<NAME>\}'"):
        alone("stage=infer", "policy.token=abc")
    assert alone("stage=infer", "policy.token=${oc.env:TOKEN}")


def test_a_notebook_submits_nothing():
    """What it composes for a cluster is refused with what to type."""
    with pytest.raises(PositronicError, match="python run.py .cluster="):
        positronic.run(positronic.compose(["stage=train", "+cluster=local_parallel", f"dataset.path={RAW}"]))


def test_without_sbatch_it_says_where_to_type_the_command(monkeypatch, tmp_path):
    """On a machine of one's own."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PositronicError, match="Type the command on a login node of the cluster, or .cluster=local"):
        checks.check_slurm(SlurmConfig(name="slurm"))


@pytest.mark.parametrize(
    ("limit", "minutes"),
    [("infinite", None), ("30:00", 30), ("1:30:00", 90), ("2-00:00:00", 2880), ("1-12", 2160)],
)
def test_time_limits_are_read_as_slurm_writes_them(limit, minutes):
    """With days and without."""
    assert checks.minutes(limit) == minutes


def test_gpus_of_a_node_are_counted_of_all_kinds(monkeypatch, tmp_path):
    """A node without a GPU cannot show how sinfo names them."""
    sinfo = tmp_path / "sinfo"
    sinfo.write_text("#!/bin/sh\necho 'gpu*|1-00:00:00|64+|512000|gpu:a100:4(S:0-1),gpu:h100:2|up'\n")
    sinfo.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert checks.partition_nodes() == [checks.Nodes("gpu", True, 1440, 64, 512000, 6, True)]


def test_sweeps_of_one_second_have_folders_of_their_own(tmp_path):
    """Whatever the clock says."""
    folders = {submission.new_sweep_folder("x", tmp_path) for _ in range(3)}
    assert len(folders) == 3
    assert {folder.name.split("_")[1] for folder in folders} == {"x"}


def test_tasks_that_need_the_same_become_one_array():
    """Behind those that they need."""
    tasks = [Task("join", (), after=("a", "b")), Task("a", ()), Task("b", ()), Task("c", (), after=("join",))]
    assert [[task.name for task in batch] for _, batch in slurm_jobs.batches(tasks)] == [["a", "b"], ["join"], ["c"]]


def test_what_became_of_a_job_follows_from_how_its_command_ended():
    """And from what it was told."""
    ends = [(0, None), (0, "requeued"), (1, None), (-signal.SIGKILL, None), (130, "requeued"), (130, "cancelled")]
    assert [state_after(*end) for end in ends] == [FINISHED, FINISHED, FAILED, KILLED, "requeued", "cancelled"]


def sweep_in(folder, *tasks):
    """A sweep of this machine whose commands are those of a small script in place of run.py."""
    code = folder / "code"
    code.mkdir(parents=True)
    (code / "run.py").write_text(SCRIPT)
    (code / "positronic").symlink_to(ROOT / "positronic")
    jobs = [Submitted(task, None) for task in tasks]
    cluster = {"name": "local_parallel", "num_parallel": 2}
    sweep = Sweep(folder, "x", "", "", str(folder), cluster, None, None, str(code), jobs)
    sweep.write()
    return sweep


def states(sweep):
    return {job.task.name: read_job(sweep.folder_of(job.task)).state for job in sweep.jobs}


def test_a_job_that_fails_stops_only_those_that_need_it(tmp_path, capsys):
    """Which are cancelled, and say why; a job says with its last lines what was wrong."""
    good, bad = Task("good", ("say=hello",)), Task("bad", ("say=oh", "exit=3"))
    after = Task("after", ("say=late",), after=("bad",)), Task("then", ("say=late",), after=("good",))
    sweep = sweep_in(tmp_path, good, bad, *after, Task("last", (), after=("after",)))
    submission.run_here(sweep)
    assert states(sweep) == {"good": FINISHED, "bad": FAILED, "after": CANCELLED, "then": FINISHED, "last": CANCELLED}
    failed = read_job(tmp_path / "bad")
    assert (failed.attempts[0].exit_code, failed.last_lines) == (3, ["oh"])
    assert read_job(tmp_path / "after").last_lines == ["Not started: bad did not finish."]
    assert "bad: failed" in capsys.readouterr().out


def test_a_job_killed_hard_is_told_from_one_that_failed(tmp_path):
    """As an out-of-memory kill is."""
    sweep = sweep_in(tmp_path, Task("0", ("kill=9",)))
    submission.run_here(sweep)
    assert states(sweep) == {"0": KILLED}


def test_ctrl_c_lets_every_job_save_and_end(tmp_path):
    """Each command gets one SIGTERM; what has not begun says so."""
    sweep = sweep_in(tmp_path, *(Task(str(n), ("wait=1",)) for n in range(3)))
    process = subprocess.Popen(
        [sys.executable, "-m", "positronic.cluster.local", str(tmp_path), "2", "0", "1", "2"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    for name in ("0", "1"):
        wait_for(lambda name=name: "waiting" in text(tmp_path / name / "log.txt"))
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) == 130
    for name in ("0", "1"):
        assert text(tmp_path / name / "log.txt").splitlines() == ["waiting", "saved"]
    assert states(sweep) == {"0": CANCELLED, "1": CANCELLED, "2": CANCELLED}


def test_a_job_runs_the_code_of_the_submission(tmp_path):
    """Also if the working tree changes afterwards, and if its folder is the working folder."""
    tree = tmp_path / "tree"
    (tree / "positronic").mkdir(parents=True)
    (tree / "run.py").write_text("import positronic\nprint(positronic.SAID)\n")
    (tree / "positronic/__init__.py").write_text("SAID = 'old'\n")
    (tree / ".gitignore").write_text("data\n")
    git(tree, "init", "-q"), git(tree, "add", "."), git(tree, "commit", "-qm", "x")
    (tree / "positronic/__init__.py").write_text("SAID = 'submitted'\n")
    (tree / "positronic/new.py").write_text("")
    (tree / "data").write_text("much")
    taken = take_snapshot(tree, tmp_path / "sweep")
    (tree / "positronic/__init__.py").write_text("SAID = 'new'\n")
    assert taken.dirty
    assert "+SAID = 'submitted'" in text(tmp_path / "sweep/code.diff")
    assert {path.name for path in taken.folder.rglob("*.py")} == {"run.py", "__init__.py", "new.py"}
    assert not (taken.folder / "data").exists()
    sweep = Sweep(tmp_path / "sweep", "x", "", "", str(tree), {}, None, None, str(taken.folder), [])
    done = subprocess.run(
        command(sweep, Task("0", ()), again=False), cwd=tree, env=environment(sweep), capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("submitted\n", "")


def test_outside_of_a_checkout_what_is_run_is_copied(tmp_path):
    """run.py, conf and the packages."""
    for name in ("run.py", "conf/config.yaml", "positronic/__init__.py", "positronic/__pycache__/x.pyc", "data/x"):
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text("")
    code = take_snapshot(tmp_path / "tree", tmp_path / "sweep").folder
    found = {str(path.relative_to(code)) for path in code.rglob("*") if path.is_file()}
    assert found == {"run.py", "conf/config.yaml", "positronic/__init__.py"}


def test_a_later_attempt_goes_on_where_the_first_one_was(tmp_path):
    """Training always can; a recording only if it has begun; a bake starts again."""
    rollouts = tmp_path / "rollouts"
    train, bake = Task("0", ("stage=train", "resume=false")), Task("1", ("stage=convert",))
    infer = Task("2", ("stage=infer", f"output_dir={rollouts}"))
    assert [may_resume(task) for task in (train, bake, infer)] == [True, False, False]
    rollouts.mkdir()
    (rollouts / "evaluation.json").write_text("")
    assert may_resume(infer)
    sweep = Sweep(tmp_path, "x", "", "", "", {}, None, None, "/code", [])
    assert command(sweep, train, again=True)[1:] == [
        *("/code/run.py", "stage=train", "resume=true", f"hydra.run.dir={tmp_path}/0")
    ]
    with_resume = {stage for stage, schema in STAGES.items() if "resume" in schema.__dataclass_fields__}
    assert with_resume == set(RESUMABLE)


def test_jobs_are_submitted_again_by_name_or_because_they_failed(tmp_path):
    """With what they need, and none that has finished."""
    sweep = sweep_in(tmp_path, Task("a", ()), Task("b", (), after=("a",)), Task("c", ()))
    for name, state in zip("abc", (FAILED, CANCELLED, FINISHED), strict=True):
        JobState(state).write(tmp_path / name)
    for names, said in {"c": "this job has finished", "b": "needs a, which failed", "d": "has no such job"}.items():
        with pytest.raises(PositronicError, match=said):
            submission.resubmit(sweep, [names])
    submission.resubmit(sweep, "failed")
    assert states(sweep) == {"a": "waiting", "b": "waiting", "c": FINISHED}


def git(folder, *arguments):
    who = {f"GIT_{role}_{what}": "x@x" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    subprocess.run(["git", *arguments], cwd=folder, env=os.environ | who, check=True)


def text(path):
    return path.read_text() if path.exists() else ""


def wait_for(condition, within_sec=60):
    end = time.monotonic() + within_sec
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
