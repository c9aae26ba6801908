"""report.html: the report as one file that a browser opens without a server."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Template
from typing import Any

from positronic import keys
from positronic.rollout.report import Rollouts, error_names, headline, replay_error, report

MAX_EMBEDDED_BYTES = 6 << 20  # larger videos are linked, so that the page opens at once

PAGE = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark; --ink: #22303c; --soft: #66757f; --line: #dfe5ea; --ground: #f6f8fa; --card: #fff;
  --good: #1f9d74; --bad: #d64550; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9ed; --soft: #94a3b0; --line: #303a43; --ground: #14191e;
  --card: #1c2329; --good: #3cc493; --bad: #f0717a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 66rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { margin: 0; font-size: 2rem; line-height: 1.2; letter-spacing: -.01em; }
h2 { margin: 2.5rem 0 .75rem; font-size: 1.05rem; }
.task { margin: .35rem 0 1.5rem; color: var(--soft); }
.stopped { padding: .7rem 1rem; border-left: 4px solid var(--bad); background: var(--card); white-space: pre-wrap; }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem; }
.number { padding: .8rem 1rem; background: var(--card); border: 1px solid var(--line); border-radius: .6rem; }
.number b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.number span, figcaption { color: var(--soft); font-size: .85rem; }
.videos { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 1rem; }
figure { margin: 0; }
video, .plot { display: block; width: 100%; border: 1px solid var(--line); border-radius: .6rem; background: #fff; }
video { max-height: 36rem; background: #14191e; }
.wide { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: .6rem; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .9rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { position: sticky; top: 0; background: var(--card); color: var(--soft); font-weight: 500; font-size: .85rem; }
th:first-child, td:first-child, .left { text-align: left; }
tr:last-child td { border-bottom: 0; }
a { color: inherit; }
.success { color: var(--good); font-weight: 600; } .timeout, .aborted, .stale { color: var(--bad); font-weight: 600; }
details { margin-top: 1rem; } summary { cursor: pointer; color: var(--soft); }
pre { padding: 1rem; overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  font-size: .8rem; }
</style>
<main>
<h1>$title</h1>
<p class="task">$task</p>
$stopped
<div class="numbers">$numbers</div>
$videos
<h2>Over all episodes</h2>
<img class="plot" alt="$alt" src="data:image/png;base64,$plot">
<h2>Episodes</h2>
<div class="wide"><table>$episodes</table></div>
<h2>Where this comes from</h2>
<details><summary>Policy</summary><pre>$policy</pre></details>
<details><summary>Configuration</summary><pre>$config</pre></details>
<details><summary>Software</summary><pre>$provenance</pre></details>
</main>
</html>
""")


def page_html(rollouts: Rollouts, plot_png: bytes) -> str:
    """The page. Picture and small videos are inside it, recordings and large videos are linked relative to ``root``."""
    facts = report(rollouts)
    return PAGE.substitute(
        title=html.escape(_capitalised(headline(rollouts))),
        task=html.escape(" · ".join(filter(None, [rollouts.task, _policy_name(rollouts.policy), rollouts.robot]))),
        stopped=f'<p class="stopped">{html.escape(rollouts.stopped)}</p>' if rollouts.stopped else "",
        numbers="".join(_number(value, what) for value, what in numbers(facts)),
        videos=_videos(rollouts),
        alt=html.escape(headline(rollouts)),
        plot=base64.b64encode(plot_png).decode(),
        episodes=_episodes(rollouts, facts),
        policy=_json(facts["policy"]),
        config=_json(facts["config"]),
        provenance=_json(facts["provenance"]),
    )


def _capitalised(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _policy_name(meta: Mapping[str, Any]) -> str:
    known = [meta.get(key) for key in (keys.META_TYPE, keys.META_EXPERIMENT, keys.META_CHECKPOINT_ID)]
    return " ".join(str(value) for value in dict.fromkeys(known) if value is not None)


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
    if facts["inference_latency_ms"]:
        latency = facts["inference_latency_ms"]
        yield _ms(latency["p50"]), f"median inference, 99 % within {_ms(latency['p99'])}"
    yield f"{facts['inferences']}", f"inferences in {facts['n']} episodes"
    yield f"{facts['wall_sec']:.0f} s", "wall time"


def _ms(value: float) -> str:
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms"


def _number(value: str, what: str) -> str:
    return f'<div class="number"><b>{html.escape(value)}</b><span>{html.escape(what)}</span></div>'


def _videos(rollouts: Rollouts) -> str:
    if not rollouts.videos:
        return ""
    by_id = {result.id: result for result in rollouts.results}
    figures = []
    for index, path in rollouts.videos.items():
        result = by_id[index]
        caption = f'seed {result.seed}, <span class="{result.outcome}">{result.outcome}</span>'
        source = _video_source(rollouts.root, path)
        figures.append(
            f'<figure><video controls muted loop playsinline preload="metadata" src="{source}"></video>'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    return f'<h2>Videos</h2><div class="videos">{"".join(figures)}</div>'


def _video_source(root: Path, path: str) -> str:
    file = root / path
    if file.stat().st_size > MAX_EMBEDDED_BYTES:
        return html.escape(path)
    return f"data:video/mp4;base64,{base64.b64encode(file.read_bytes()).decode()}"


def _episodes(rollouts: Rollouts, facts: Mapping[str, Any]) -> str:
    metrics = _shown_metrics(facts["episodes"], rollouts.scores.score if rollouts.scores else None)
    heads = ["seed", "outcome", "time to success", "duration", *(f"{name} (max)" for name in metrics), "recording", ""]
    rows = ["".join(f"<th>{html.escape(head)}</th>" for head in heads)]
    for episode in facts["episodes"]:
        video = rollouts.videos.get(episode["id"])
        reached = "" if episode["success_sec"] is None else f"{episode['success_sec']:.2f} s"
        reason = html.escape(episode["reason"] or "")
        cells = [
            f"{episode['seed']}",
            f'<span class="{episode["outcome"]}" title="{reason}">{episode["outcome"]}</span>',
            reached,
            f"{episode['duration_sec']:.2f} s",
            *(f"{episode['max'][name]:.3f}" if name in episode["max"] else "" for name in metrics),
            f'<a href="{html.escape(episode["path"])}">{episode["path"].rpartition("/")[2]}</a>',
            f'<a href="{html.escape(video)}">video</a>' if video else "",
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
