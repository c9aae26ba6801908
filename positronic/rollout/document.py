"""A page that a browser opens without a server: our style, and what is inside it."""

from __future__ import annotations

import base64
import html
from pathlib import Path
from string import Template

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
$body
</main>
</html>
""")


def document(title: str, body: str) -> str:
    """``title``: text, which is also the heading. ``body``: HTML."""
    return PAGE.substitute(title=html.escape(title), body=body)


def capitalised(sentence: str) -> str:
    """With a large first letter."""
    return sentence[:1].upper() + sentence[1:]


def tile(value: str, what: str) -> str:
    """A number and what it is."""
    return f'<div class="number"><b>{html.escape(value)}</b><span>{html.escape(what)}</span></div>'


def picture(png: bytes, alt: str) -> str:
    """A plot inside the page; ``alt``: what it says, in words."""
    return f'<img class="plot" alt="{html.escape(alt)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def video(file: Path, link: str, caption: str) -> str:
    """A video inside the page, or where ``link`` leads if it is large. ``caption``: HTML."""
    return (
        '<figure><video controls muted loop playsinline preload="metadata" '
        f'src="{_source(file, link)}"></video><figcaption>{caption}</figcaption></figure>'
    )


def outcome(word: str, reason: str | None = None) -> str:
    """How an episode ended, in its colour."""
    return f'<span class="{word}" title="{html.escape(reason or "")}">{word}</span>'


def _source(file: Path, link: str) -> str:
    if file.stat().st_size > MAX_EMBEDDED_BYTES:
        return html.escape(link)
    return f"data:video/mp4;base64,{base64.b64encode(file.read_bytes()).decode()}"
