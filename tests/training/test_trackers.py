"""What goes to Weights & Biases, from a machine that cannot reach it."""

import json
import re
import shlex
import time
from pathlib import Path

import pytest
import wandb
from wandb.proto.wandb_internal_pb2 import Record
from wandb.sdk.internal.datastore import DataStore

from positronic.training.config import TrackerConfig
from positronic.training.trackers import open_tracker

NOBODY = "http://127.0.0.1:9"  # the port of a service that nobody runs
WRITTEN_SEC = 60.0


def records(folder):
    """``{kind: [record]}`` of each offline part, in the order of their names, which begin with the time."""
    return [whole(path) for path in sorted(folder.glob("wandb/offline-run-*/*.wandb"))]


def whole(path):
    """The records of a file, which another process of wandb's may still be writing for a moment."""
    until = time.monotonic() + WRITTEN_SEC
    while True:
        store, found = DataStore(), {}
        store.open_for_scan(str(path))
        while (data := store.scan_data()) is not None:
            record = Record.FromString(data)
            found.setdefault(record.WhichOneof("record_type"), []).append(record)
        if "exit" in found:
            return found
        assert time.monotonic() < until, found.keys()


@pytest.fixture
def tracked(tmp_path):
    """``tracked(folder, steps, **config)`` logs these steps of the job in that folder."""

    def run(name, steps, **config):
        folder = tmp_path / name / "act"
        folder.mkdir(parents=True, exist_ok=True)
        tracker = open_tracker(TrackerConfig("wandb", **config), folder, {"seed": 1})
        for step in steps:
            tracker.log({"step": step, "loss": 1 / step})
        tracker.close()
        return folder

    return run


def test_a_job_that_goes_on_stays_one_run_of_its_group(tracked):
    """Two jobs of a sweep, one of them in two parts: each has one id and one name, and all the sweep as their group."""
    for name, steps in (("0", (1, 2)), ("0", (3,)), ("1", (1,))):
        folder = tracked(name, steps, group="sweep", mode="offline")
    jobs = [[part["run"][0].run for part in records(folder.parents[1] / name / "act")] for name in ("0", "1")]
    assert [[run.display_name for run in job] for job in jobs] == [["0_act", "0_act"], ["1_act"]]
    assert {run.run_group for job in jobs for run in job} == {"sweep"}
    ids = [{run.run_id for run in job} for job in jobs]
    assert [len(each) for each in ids] == [1, 1]
    assert ids[0] != ids[1]


def test_what_is_offline_says_what_sends_it(tracked, capsys):
    """The command's paths are those of the parts."""
    folder = tracked("run", (1,), mode="offline")
    (command,) = re.findall(r"^  (wandb sync --append .*)$", capsys.readouterr().out, re.MULTILINE)
    pattern = Path(shlex.split(command)[-1])
    assert list(pattern.parent.glob(pattern.name)) == list(folder.glob("wandb/offline-run-*"))


def test_without_a_network_it_goes_offline(tracked, monkeypatch, capsys):
    """At once, and it is said: the training of a night does not end, or wait, for that."""
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(wandb.setup().settings, "base_url", NOBODY)
    folder = tracked("run", (1,), mode="online")
    said = capsys.readouterr().out
    assert f"{NOBODY} cannot be reached" in said
    assert "wandb sync" in said
    (part,) = records(folder)
    assert json.loads(part["history"][0].history.item[0].value_json)
