"""report.html: the report as one file that a browser opens without a server."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping
from string import Template
from typing import Any

from positronic.rollout.document import capitalised, document, outcome, picture, tile, video
from positronic.rollout.report import (
    Rollouts,
    error_names,
    headline,
    instruction_lines,
    policy_name,
    replay_error,
    report,
)

BODY = Template("""<p class="task">$task</p>
$stopped
$instructions
<div class="numbers">$numbers</div>
$videos
<h2>Over all episodes</h2>
$plot
<h2>Episodes</h2>
<div class="wide"><table>$episodes</table></div>
<h2>Where this comes from</h2>
<details><summary>Policy</summary><pre>$policy</pre></details>
<details><summary>Configuration</summary><pre>$config</pre></details>
<details><summary>Software</summary><pre>$provenance</pre></details>""")


def page_html(rollouts: Rollouts, plot_png: bytes) -> str:
    """The page. Picture and small videos are inside it, recordings and large videos are linked relative to ``root``."""
    facts = report(rollouts)
    body = BODY.substitute(
        task=html.escape(" · ".join(filter(None, [rollouts.task, policy_name(rollouts.policy), rollouts.robot]))),
        stopped=f'<p class="stopped">{html.escape(rollouts.stopped)}</p>' if rollouts.stopped else "",
        instructions="".join(f"<p>{html.escape(capitalised(line))}</p>" for line in instruction_lines(rollouts)),
        numbers="".join(tile(value, what) for value, what in numbers(facts)),
        videos=_videos(rollouts),
        plot=picture(plot_png, headline(rollouts)),
        episodes=_episodes(rollouts, facts),
        policy=_json(facts["policy"]),
        config=_json(facts["config"]),
        provenance=_json(facts["provenance"]),
    )
    return document(capitalised(headline(rollouts)), body)


def numbers(facts: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """The tiles at the top: value, what it is. ``facts``: what ``report`` gives."""
    if facts["success_rate"] is not None:
        low, high = facts["interval_95"]
        yield f"{100 * facts['success_rate']:.0f} %", f"success, 95 % interval {100 * low:.0f}-{100 * high:.0f} %"
    for name, error in facts["replay_errors"].items():
        what, unit, factor = replay_error(name)
        yield f"{factor * error['mean']:.3g} {unit}", f"{what}, mean; at most {factor * error['max']:.3g} {unit}"
    if facts["success_sec"]:
        yield f"{facts['success_sec']['p50']:.2f} s", "median time to success"
    if facts["smoothness"] is not None:
        yield f"{facts['smoothness']:.2f}", "smoothness, mean log dimensionless jerk; nearer to 0 is smoother"
    if facts["inference_latency_ms"]:
        latency = facts["inference_latency_ms"]
        yield _ms(latency["p50"]), f"median inference, 99 % within {_ms(latency['p99'])}"
    yield f"{facts['inferences']}", f"inferences in {facts['n']} episodes"
    if facts["idle_frames"]:
        yield f"{facts['idle_frames']}", "idle frames: control steps without an answer"
    if facts["clamped_steps"]:
        yield f"{facts['clamped_steps']}", "steps brought within the driver's limits"
    before = f", after {facts['earlier']} episodes of an earlier run" if facts["earlier"] else ""
    yield f"{facts['wall_sec']:.0f} s", f"wall time{before}"


def _ms(value: float) -> str:
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms"


def _videos(rollouts: Rollouts) -> str:
    if not rollouts.videos:
        return ""
    by_id = {result.id: result for result in rollouts.results}
    figures = []
    for index, path in rollouts.videos.items():
        result = by_id[index]
        caption = f"seed {result.seed}, {outcome(result.outcome)}"
        figures.append(video(rollouts.root / path, path, caption))
    return f'<h2>Videos</h2><div class="videos">{"".join(figures)}</div>'


def _episodes(rollouts: Rollouts, facts: Mapping[str, Any]) -> str:
    metrics = _shown_metrics(facts["episodes"], rollouts.scores.score if rollouts.scores else None)
    measures = ["time to success", "duration", "smoothness", *(f"{name} (max)" for name in metrics)]
    heads = ["seed", "outcome", *measures, "recording", ""]
    rows = ["".join(f"<th>{html.escape(head)}</th>" for head in heads)]
    for episode in facts["episodes"]:
        film = rollouts.videos.get(episode["id"])
        reached = "" if episode["success_sec"] is None else f"{episode['success_sec']:.2f} s"
        cells = [
            f"{episode['seed']}",
            outcome(episode["outcome"], episode["reason"]),
            reached,
            f"{episode['duration_sec']:.2f} s",
            "" if episode["smoothness"] is None else f"{episode['smoothness']:.2f}",
            *(f"{episode['max'][name]:.3f}" if name in episode["max"] else "" for name in metrics),
            f'<a href="{html.escape(episode["path"])}">{episode["path"].rpartition("/")[2]}</a>',
            f'<a href="{html.escape(film)}">video</a>' if film else "",
        ]
        rows.append("".join(f"<td>{cell}</td>" for cell in cells))
    return "".join(f"<tr>{row}</tr>" for row in rows)


def _shown_metrics(episodes: Iterable[Mapping[str, Any]], score: str | None) -> list[str]:
    """The score, not its parts; every replay error."""
    names = dict.fromkeys(name for episode in episodes for name in episode["max"])
    errors = error_names(names)
    return [name for name in names if name in errors or name == score]


def _json(value: Any) -> str:
    return html.escape(json.dumps(value, indent=1, default=str))
