"""The table of a sweep says of each job what it came to: in the terminal, as CSV, as a picture and on the page."""

import csv
import io
import json
import re

import numpy as np
import pytest
from cluster.sweeps import ended, evaluated, sweep_in, trained
from PIL import Image
from rich.console import Console

from positronic.cluster.closing import best_of, close
from positronic.cluster.files import csv_text, write_files
from positronic.cluster.results import results_of
from positronic.cluster.states import states_of
from positronic.cluster.table import sweep_table

SENTENCE = 'pick the "cube" for $5, then\nstop 拿起 <b>'


def rows_of(sweep):
    return results_of(sweep, states_of(sweep, lambda ids: None))


def text_of(sweep, results, width=200):
    console = Console(file=io.StringIO(), width=width)
    console.print(sweep_table(sweep, results))
    return console.file.getvalue()


@pytest.fixture
def sweep(tmp_path):
    """A training that finished, one that failed, an evaluation, and a job that waits."""
    made = sweep_in(tmp_path, {"seed": "0"}, {"seed": "1", "task": SENTENCE}, {"seed": "2"}, {"seed": "3"})
    trained(tmp_path / "0", 100, held_out=True, checkpoints=(30, 100))
    ended(tmp_path / "0", "finished", 5400, gpus=2)
    trained(tmp_path / "1", 12, checkpoints=(10,))
    ended(tmp_path / "1", "failed", 20, 1, ["Traceback", "MemoryError: <no room>"])
    evaluated(tmp_path / "2", 18, 20)
    ended(tmp_path / "2", "finished")
    return made


def test_a_training_says_its_steps_its_losses_and_its_best_checkpoint(sweep):
    result = rows_of(sweep)[0]
    assert (result.steps, result.of_steps) == (100, 100)
    assert result.loss.last == result.loss.best == pytest.approx(0.1 + np.exp(-5))
    assert result.val_loss.best_step == 50
    assert result.val_loss.best < result.val_loss.last
    assert result.checkpoint == str(sweep.folder / "0" / "lerobot_ee" / "checkpoints" / "000100")


def test_the_checkpoint_with_the_lowest_held_out_loss_is_named_if_it_was_kept(tmp_path):
    sweep = sweep_in(tmp_path, {})
    trained(tmp_path / "0", 100, held_out=True, checkpoints=(50, 100))
    assert rows_of(sweep)[0].checkpoint.endswith("checkpoints/000050")


def test_an_evaluation_says_its_success_with_wilson_s_interval(sweep):
    result = rows_of(sweep)[2]
    assert (result.successes, result.episodes, result.success_rate) == (18, 20, 0.9)
    assert result.interval_95 == pytest.approx((0.699, 0.972), abs=1e-3)


def test_a_damaged_file_of_one_job_leaves_a_gap_and_the_other_rows(sweep):
    metrics = sweep.folder / "0" / "lerobot_ee" / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes() + b'{"step": 101, "lo')
    (sweep.folder / "1" / "provenance.json").write_text("{")
    (sweep.folder / "2" / "rollouts" / "report.json").write_text("[]")
    first, second, third, _ = rows_of(sweep)
    assert (first.steps, second.steps, third.success_rate) == (100, None, None)


def test_a_loss_that_is_no_number_is_not_the_best(tmp_path):
    sweep = sweep_in(tmp_path, {})
    trained(tmp_path / "0", 3)
    with (tmp_path / "0" / "lerobot_ee" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "loss": NaN}\n')
    result = rows_of(sweep)[0]
    assert (result.steps, result.loss.steps) == (4, [1, 2, 3])


def test_results_are_found_where_the_folder_has_another_path(sweep, tmp_path_factory):
    """It is mounted elsewhere on another machine."""
    there = tmp_path_factory.mktemp("mount") / sweep.folder.name
    sweep.folder.rename(there)
    moved = type(sweep)(**vars(sweep) | {"folder": there})
    assert rows_of(moved)[0].steps == 100


def test_the_last_lines_are_those_of_the_log_if_the_job_could_not_say_them(tmp_path):
    sweep = sweep_in(tmp_path, {})
    ended(tmp_path / "0", "killed", exit_code=-9)
    (tmp_path / "0" / "log.txt").write_text("step 1\rstep 2\n\nKilled\n")
    assert rows_of(sweep)[0].last_lines == ["step 1", "step 2", "Killed"]


def test_the_terminal_shows_each_job_and_why_one_failed(sweep):
    text = text_of(sweep, rows_of(sweep))
    assert "act: 1 failed, 1 waiting, 2 finished (4 jobs)" in text
    for said in ("100/100", "12/100", "18/20 (70-97 %)", "1:30:00", "3.00", "000100", "MemoryError: <no room>"):
        assert said in text
    assert "1 failed: ended with exit code 1" in text


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_narrow_terminal_has_fewer_columns_and_says_which_are_missing(sweep, width):
    text = text_of(sweep, rows_of(sweep), width)
    assert max(map(len, text.splitlines())) <= width
    assert "finished" in text
    assert "no room for:" in text.replace("\n", " ")


def test_the_csv_has_a_row_for_each_job_with_every_text_as_it_was(sweep):
    first, second, third, fourth = csv.DictReader(io.StringIO(csv_text(rows_of(sweep))))
    assert (first["state"], first["steps"], first["wall_sec"], first["gpu_hours"]) == (
        "finished",
        "100",
        "5400.0",
        "3.0",
    )
    assert (second["task"], second["last_lines"]) == (SENTENCE, "Traceback\nMemoryError: <no room>")
    assert (third["success_rate"], third["interval_low"][:5]) == ("0.9", "0.698")
    assert (fourth["job"], fourth["state"], fourth["loss"]) == ("3", "waiting", "")


def test_the_page_needs_nothing_from_elsewhere_and_escapes_what_was_typed(sweep):
    paths = write_files(sweep, rows_of(sweep))
    assert [path.name for path in paths] == ["sweep.csv", "sweep.png", "sweep.html"]
    page = paths[-1].read_text()
    assert re.findall(r'(?:src|href)="(?!data:)([^"]*)"', page) == []
    assert "then\nstop 拿起 &lt;b&gt;" in page
    assert "MemoryError: &lt;no room&gt;" in page
    assert "18/20" in page


def test_the_log_of_a_job_is_linked_from_the_page(sweep):
    (sweep.folder / "1" / "log.txt").write_text("Traceback\n")
    page = write_files(sweep, rows_of(sweep))[-1].read_text()
    assert re.findall(r'href="([^"]*)"', page) == ["1/log.txt"]


def test_the_picture_of_fifty_jobs_has_their_curves_and_stays_a_picture(tmp_path):
    sweep = sweep_in(tmp_path, *({"learning_rate": f"{n}e-5", "task": SENTENCE} for n in range(50)))
    for n in range(50):
        trained(tmp_path / str(n), 20, floor=0.1 * n, held_out=True)
    _, picture, _ = write_files(sweep, rows_of(sweep))
    width, height = Image.open(picture).size
    assert width == 1350
    assert 900 < height < 1500


@pytest.mark.parametrize("kind", ["evaluations", "nothing"])
def test_there_is_a_picture_also_without_a_loss(tmp_path, kind):
    sweep = sweep_in(tmp_path, {"seed": "0"}, {"seed": "1"})
    for n in range(2):
        if kind == "evaluations":
            evaluated(tmp_path / str(n), n, 5)
        ended(tmp_path / str(n), "finished")
    assert Image.open(write_files(sweep, rows_of(sweep))[1]).size[0] == 1350


def test_the_end_says_how_to_serve_and_evaluate_the_best(sweep, capsys):
    close(sweep, states_of(sweep, lambda ids: None))
    place = sweep.folder / "0" / "lerobot_ee"
    said = capsys.readouterr().out
    assert f"serve:    python run.py stage=serve checkpoints_dir={place} checkpoint=000100" in said
    assert f"policy=local policy.checkpoints_dir={place} policy.checkpoint=000100" in said
    assert f"watch:    python run.py stage=sweep sweep={sweep.folder} watch=true" in said


def test_losses_of_different_vendors_have_no_best(tmp_path):
    vendors = ("lerobot", "gr00t")
    sweep = sweep_in(tmp_path, *({"vendor": vendor} for vendor in vendors))
    for n in range(2):
        trained(tmp_path / str(n), 20, checkpoints=(20,))
    assert best_of(rows_of(sweep)) is None


def test_a_folder_that_cannot_be_written_still_shows_its_table(sweep, capsys):
    (sweep.folder / "sweep.csv").mkdir()
    close(sweep, states_of(sweep, lambda ids: None))
    said = capsys.readouterr().out
    assert "act: 1 failed, 1 waiting, 2 finished (4 jobs)" in said
    assert "the table's files could not be written" in said


def test_results_in_a_bucket_that_cannot_be_reached_leave_gaps(tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    sweep = sweep_in(tmp_path, {})
    trained(tmp_path / "0", 20)
    provenance = tmp_path / "0" / "provenance.json"
    config = {"stage": "train", "output_dir": "s3://bucket/x", "exp_name": "a", "num_train_steps": 9}
    config["storage"] = {"endpoint_url": "http://127.0.0.1:1", "retries": 0, "timeout_sec": 1.0}
    provenance.write_text(json.dumps({"config": config}))
    result = rows_of(sweep)[0]
    assert (result.place, result.steps, result.of_steps) == ("s3://bucket/x/a", None, 9)
