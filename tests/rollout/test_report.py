"""What is said about many episodes."""

import html
import io
import json
import re
from dataclasses import replace

import pytest
from PIL import Image
from rich.console import Console
from rollout_reports import episode, rollouts

from positronic import keys
from positronic.hardware.sim.tasks.stack import SCORES
from positronic.rollout.page import page_html
from positronic.rollout.plot import plot_png
from positronic.rollout.publish import closing_words, publish
from positronic.rollout.report import headline, report
from positronic.rollout.results import wilson_interval

PNG = b"\x89PNG"


def replayed(root):
    metrics = {keys.REPLAY_POSITION_ERROR: [(0.0, 0.001), (1.0, 0.003)]}
    results = [episode(root, 0, "replayed", metrics=metrics)]
    return replace(rollouts(root), results=results)


def test_the_headline_counts_and_says_how_sure_that_is(tmp_path):
    """Successes, episodes, and the 95 % interval in whole percent."""
    assert headline(rollouts(tmp_path, "success", "success", "timeout")) == "stacked 2/3 (95 % interval 21-94 %)"


def test_an_aborted_episode_counts_for_nothing(tmp_path):
    """It is listed with its reason, but it says nothing about the policy."""
    facts = report(rollouts(tmp_path, "success", "aborted"))
    assert (facts["n"], facts["aborted"], facts["success_rate"], len(facts["episodes"])) == (1, 1, 1.0, 2)


def test_nothing_finished_is_said_so(tmp_path):
    """No rate is made of no episodes."""
    facts = report(rollouts(tmp_path, "aborted"))
    assert (facts["summary"], facts["success_rate"]) == ("no episode was finished", None)


def test_the_report_holds_the_numbers(tmp_path):
    """Rates, times, latencies over all inferences, and of each episode its scores and its path within the folder."""
    facts = report(rollouts(tmp_path, "success", "timeout", stopped="Enough."))
    assert (facts["successes"], facts["success_rate"], facts["stopped"]) == (1, 0.5, "Enough.")
    assert facts["inference_latency_ms"] == {"p50": 20.0, "p90": 30.0, "p99": 30.0, "max": 30.0}
    assert facts["success_sec"]["p50"] == 1.5
    assert facts["smoothness"] == -9.0
    assert facts["episodes"][1] == {
        "id": 1,
        "seed": 1001,
        "outcome": "timeout",
        "success": False,
        "success_sec": None,
        "duration_sec": 2.0,
        "max": {SCORES.score: 0.5},
        "mean": {SCORES.score: 0.25},
        "clamped_steps": 0,
        "idle_frames": 0,
        "smoothness": -9.5,
        "reason": None,
        "path": "000000000000/000000000001",
    }


def test_a_replay_reports_errors_instead_of_success(tmp_path):
    """The mean error in the headline, in millimetres; no rate."""
    facts = report(replayed(tmp_path))
    assert facts["summary"] == "replayed 1 recording, on average off by 2 mm (position)"
    assert facts["replay_errors"] == {keys.REPLAY_POSITION_ERROR: {"mean": 0.002, "p95": 0.0029, "max": 0.003}}
    assert facts["success_rate"] is None


@pytest.mark.parametrize("outcomes", [("success",), ("timeout",), ("success", "timeout", "aborted"), ("aborted",)])
def test_every_mix_of_outcomes_has_a_picture(tmp_path, outcomes):
    """The picture is drawn with and without successes, failures and aborted episodes."""
    assert Image.open(io.BytesIO(plot_png(rollouts(tmp_path, *outcomes)))).width == 1350


def test_a_replay_has_a_picture_of_its_errors(tmp_path):
    """One row per kind of error."""
    assert Image.open(io.BytesIO(plot_png(replayed(tmp_path)))).width == 1350


def test_the_page_is_one_file(tmp_path):
    """Picture and small videos are inside; nothing is fetched from anywhere, and recordings are linked."""
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"video")
    page = page_html(rollouts(tmp_path, "success", "timeout", videos={1: "videos/a.mp4"}), PNG)
    assert not re.search(r"https?://", page)
    assert {source.partition(";")[0] for source in re.findall(r'src="([^"]*)"', page)} == {
        "data:image/png",
        "data:video/mp4",
    }
    assert re.findall(r'href="([^"]*)"', page) == [
        "000000000000/000000000000",
        "000000000000/000000000001",
        "videos/a.mp4",
    ]


def test_the_page_shows_text_as_text(tmp_path):
    """A task or a reason that looks like markup does not become any."""
    page = page_html(rollouts(tmp_path, "success", task="<script>", stopped="<b>why</b>"), PNG)
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "&lt;b&gt;why" in page


def test_success_is_said_for_each_of_several_instructions(tmp_path):
    """With its interval, a line each, in the report, on the page and at the end; an aborted episode does not count, and
    a replay succeeds at nothing."""
    told = ["<Red> on blue.", "Blue on red.", "<Red> on blue.", "Blue on red.", "Neither."]
    run = rollouts(tmp_path, "success", "timeout", "success", "success", "aborted")
    run = replace(run, results=[replace(each, task=task) for each, task in zip(run.results, told, strict=True)])
    lines = ["stacked 2/2 (95 % interval 34-100 %): <Red> on blue.", "stacked 1/2 (95 % interval 9-91 %): Blue on red."]
    facts = report(run)["by_instruction"]
    assert [(each["instruction"], each["successes"], each["n"]) for each in facts] == [(told[0], 2, 2), (told[1], 1, 2)]
    assert facts[0]["interval_95"] == list(wilson_interval(2, 2))
    assert closing_words(run, None, None).splitlines()[1:3] == [f"  {line}" for line in lines]
    page = page_html(run, PNG)
    assert all(f"<p>S{html.escape(line[1:])}</p>" in page for line in lines)
    one, shown = Console(width=120, file=io.StringIO()), Console(width=120, file=io.StringIO())
    one.print(rollouts(tmp_path, "success", "timeout"))
    shown.print(run)
    assert all(line in shown.file.getvalue() for line in lines)
    assert "): " not in one.file.getvalue()
    assert report(rollouts(tmp_path, "success", "timeout"))["by_instruction"] == []
    replays = [replace(replayed(tmp_path).results[0], task=task) for task in told[:2]]
    assert report(replace(replayed(tmp_path), results=replays))["by_instruction"] == []


def test_what_is_published_is_where_it_is_said_to_be(tmp_path):
    """Every path that is printed exists, and report.json reads back."""
    run = rollouts(tmp_path, "success")
    publish(run)
    for path in re.findall(r"(?:report|numbers|plot): +(\S+)", closing_words(run, None, "again")):
        assert (tmp_path / path).exists()
    assert json.loads((tmp_path / "report.json").read_text())["policy"]["size"] == 2.0
