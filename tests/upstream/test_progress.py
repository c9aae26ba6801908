"""What a child prints while it trains is reported as our own training is."""

import io
import itertools
import json
import re

import pytest
from rich.console import Console

from positronic.training.plot import PLOT_FILE, write_plot
from positronic.upstream.child import run
from positronic.upstream.progress import ChildProgress, Reading

STEP = re.compile(r"Step (\d+): grad_norm=(\S+), loss=([^,\s]+)")


def parse(line):
    found = STEP.search(line)
    if found is None:
        return None
    return Reading(int(found[1]) + 1, {"loss": float(found[3]), "grad_norm": float(found[2])})


class Kept:
    """A tracker that remembers."""

    def __init__(self):
        self.rows, self.closed = [], False

    def log(self, metrics):
        self.rows.append(dict(metrics))

    def close(self):
        self.closed = True


@pytest.fixture
def progress(tmp_path):
    """``progress(start, total)`` and what it has told; its clock goes on by ten seconds a reading."""

    def make(start, total, parse=parse, terminal=False):
        clock = itertools.count(0, 10).__next__
        console = Console(file=told, force_terminal=terminal, width=120)
        return ChildProgress(make.metrics, start, total, tracker, console, parse, clock)

    told, tracker = io.StringIO(), Kept()
    make.told, make.tracker, make.metrics = told, tracker, tmp_path / "run" / "metrics.jsonl"
    return make


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_are_those_of_a_childs_lines_and_the_tracker_gets_them(progress, command, tmp_path):
    """Of a real child, whose line follows a progress bar; the picture is drawn of them, without a learning rate."""
    text = "print('compiling'); print('1/2\\r\\rStep 0: grad_norm=2.5, loss=3.0'); print('Step 1: grad_norm=2, loss=1')"
    with progress(0, 2) as report:
        assert run(command(text), tmp_path / "child.log", report).code == 0
    told = [{"step": 1, "loss": 3.0, "grad_norm": 2.5}, {"step": 2, "loss": 1.0, "grad_norm": 2.0}]
    assert rows(progress.metrics) == told == progress.tracker.rows
    assert progress.tracker.closed
    assert "step 2/2  loss 1.0000" in progress.told.getvalue()
    write_plot(progress.metrics)
    assert (tmp_path / "run" / PLOT_FILE).exists()


def test_a_step_that_was_told_before_is_no_second_row(progress):
    """A child that is resumed may repeat some, and W&B takes rising steps alone."""
    with progress(2, 4) as report:
        for number in (0, 1, 2, 2, 3):
            report(f"Step {number}: grad_norm=1, loss=1")
    assert [row["step"] for row in rows(progress.metrics)] == [3, 4]


def test_the_rate_counts_from_the_first_reading(progress):
    """Loading and compilation take minutes; the clock here goes on by ten seconds a line."""
    with progress(0, 200) as report:
        report("Step 0: grad_norm=1, loss=1")
        report("Step 99: grad_norm=1, loss=1")
        report("Step 199: grad_norm=1, loss=1")
    assert "step 200/200  loss 1.0000  9.95 steps/s" in progress.told.getvalue()


def test_a_terminal_shows_a_bar(progress):
    """With the child's own rate, where it tells one; a reading without a loss moves the bar alone."""

    def read(line):
        return Reading(int(line), {"loss": 2.0, "lr": 1e-4} if line == "5" else {}, 1.5)

    with progress(0, 10, read, terminal=True) as report:
        report("5")
        report("10")
    shown = progress.told.getvalue()
    assert "10/10" in shown
    assert "loss 2.0000  lr 1.00e-04  1.50 steps/s" in shown
    assert len(rows(progress.metrics)) == 1
