"""What the server says when it starts: which policy, in which conventions, and how to reach it."""

from __future__ import annotations

import socket

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from positronic import keys
from positronic.codecs.build import Recipe
from positronic.codecs.table import contract_table
from positronic.training.checkpoints import Checkpoint

EVERYWHERE = ("0.0.0.0", "::")


def print_banner(checkpoint: Checkpoint, vendor: str, recipe: Recipe, host: str, port: int, has_token: bool) -> None:
    """The server's contract as tables on stdout; a warning on stderr when everybody may come in."""
    reachable = _reachable(host)
    authority = f"[{reachable}]:{port}" if ":" in reachable else f"{reachable}:{port}"
    table = Table(title="inference server", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in (
        ("checkpoint", f"{checkpoint.id} of {checkpoint.experiment_dir}"),
        ("vendor", vendor),
        ("codec", recipe.codec.name),
        ("models", f"http://{authority}{keys.ROUTE_MODELS}"),
        ("sessions", f"ws://{authority}{keys.ROUTE_SESSION}[/<checkpoint>]"),
        ("token", "needed" if has_token else "none"),
        ("try it", _command(reachable, port, has_token)),
    ):
        table.add_row(name, value)
    console = Console(markup=False, highlight=False)
    console.print(table)
    console.print(contract_table(recipe))
    if host in EVERYWHERE and not has_token:
        _warn_open_door(host)


def _reachable(host: str) -> str:
    return socket.gethostname() if host in EVERYWHERE else host


def _command(host: str, port: int, has_token: bool) -> str:
    token = " policy.token=<token>" if has_token else ""
    return f"python run.py stage=infer hardware=sim policy=remote policy.host={host} policy.port={port}{token}"


def _warn_open_door(host: str) -> None:
    text = (
        f"Listening on every interface ({host}) without a token: whoever reaches this machine can use this server.\n"
        "Set server.token=<secret>, or server.host=127.0.0.1 for this machine only."
    )
    Console(stderr=True).print(Panel(text, title="WARNING", style="bold red"))
