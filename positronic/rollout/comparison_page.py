"""comparison.html: a comparison as one file that a browser opens without a server."""

from __future__ import annotations

import html
import os
from collections.abc import Iterator
from pathlib import Path
from string import Template

from positronic.rollout.comparison import Comparison, Evaluation, advice, sentence
from positronic.rollout.comparison_films import Films, own_film
from positronic.rollout.document import capitalised, document, outcome, picture, tile, video

BODY = Template("""<p class="task">$task</p>
$sentences
<div class="numbers">$numbers</div>
$section
<h2>All seeds</h2>
$plot
$videos
<h2>Seeds that went differently</h2>
<div class="wide"><table>$seeds</table></div>""")


def comparison_html(comparison: Comparison, plot_png: bytes, root: Path | None, films: Films, section: str = "") -> str:
    """The page, to lie in ``root``, None for a place that is not on this machine. Recordings of evaluations on this
    machine are linked, and ``films`` are inside it. ``section``: HTML that follows the numbers."""
    said = [capitalised(sentence(comparison, other)) for other in comparison.others]
    more = advice(comparison)
    body = BODY.substitute(
        task=html.escape(f"{comparison.first.report['task']} · {comparison.first.report['robot']}"),
        sentences="".join(f"<p>{html.escape(each)}.</p>" for each in [*said, *([more] if more else [])]),
        numbers="".join(_tiles(comparison)),
        section=section,
        plot=picture(plot_png, "; ".join(said)),
        videos=_videos(comparison, root, films),
        seeds=_seeds(comparison, root),
    )
    return document(f"{' beside '.join(each.name for each in comparison.evaluations)}", body)


def _tiles(comparison: Comparison) -> Iterator[str]:
    n = len(comparison.seeds)
    for each in comparison.evaluations:
        low, high = comparison.interval(each)
        interval = f"95 % interval {100 * low:.0f}-{100 * high:.0f} %"
        yield tile(f"{comparison.successes(each)}/{n}", f"{each.name} ({each.policy}), {interval}")
    for each in comparison.evaluations:
        times, latency = comparison.success_sec(each), each.report["inference_latency_ms"]
        if times and latency:
            answers = f"answers in {latency['p50']} ms, 99 % in {latency['p99']} ms"
            yield tile(f"{times['p50']:.2f} s", f"{each.name}: median time to success; {answers}")
    for each in comparison.evaluations:
        smoothness = comparison.smoothness(each)
        if smoothness is not None:
            what = f"{each.name}: smoothness where all succeeded, mean log dimensionless jerk; nearer to 0 is smoother"
            yield tile(f"{smoothness:.2f}", what)
    for other in comparison.others:
        later = comparison.later(other)
        if later is not None:
            interval = (
                f"95 % interval {later.low:+.2f} to {later.high:+.2f} s, {later.count} seeds that both succeeded at"
            )
            what = f"{other.evaluation.name}: time to success beside that of {comparison.first.name}, {interval}"
            yield tile(f"{later.mean:+.2f} s", what)
        smoother = comparison.smoother(other)
        if smoother is not None:
            interval = f"95 % interval {smoother.low:+.2f} to {smoother.high:+.2f}, {smoother.count} seeds"
            what = f"{other.evaluation.name}: smoothness beside that of {comparison.first.name}, {interval}"
            yield tile(f"{smoother.mean:+.2f}", what)


def _videos(comparison: Comparison, root: Path | None, known: Films) -> str:
    """Side by side, of the seeds that went differently and of which every evaluation has one."""
    rows = []
    for seed in comparison.differing or comparison.seeds[:1]:
        films = [known.get((each.name, seed)) or own_film(each, seed) for each in comparison.evaluations]
        if all(films):
            figures = [
                video(film, _link(film, root), f"{html.escape(each.name)}, seed {seed}, {_outcome(each, seed)}")
                for each, film in zip(comparison.evaluations, films, strict=True)
                if film is not None
            ]
            rows.append(f'<div class="videos">{"".join(figures)}</div>')
    return f"<h2>The same seed, side by side</h2>{''.join(rows)}" if rows else ""


def _seeds(comparison: Comparison, root: Path | None) -> str:
    heads = ["seed", *(each.name for each in comparison.evaluations)]
    rows = ["".join(f"<th>{html.escape(head)}</th>" for head in heads)]
    for seed in comparison.differing:
        cells = [str(seed), *(_linked(each, seed, root) for each in comparison.evaluations)]
        rows.append("".join(f"<td>{cell}</td>" for cell in cells))
    if len(rows) == 1:
        return "<tr><td>None: all did the same at every seed.</td></tr>"
    return "".join(f"<tr>{row}</tr>" for row in rows)


def _linked(evaluation: Evaluation, seed: int, root: Path | None) -> str:
    """How the episode ended, and its recording."""
    said, local = _outcome(evaluation, seed), evaluation.place.local
    if local is None:
        return said
    path = local / evaluation.episodes[seed]["path"]
    return f'<a href="{html.escape(_link(path, root))}">{said}</a>'


def _outcome(evaluation: Evaluation, seed: int) -> str:
    episode = evaluation.episodes[seed]
    return outcome(episode["outcome"], episode["reason"])


def _link(path: Path, root: Path | None) -> str:
    if root is None:
        return path.resolve().as_uri()
    return Path(os.path.relpath(path.resolve(), root.resolve())).as_posix()
