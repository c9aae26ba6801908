"""What the server says when it starts: which policy, in which conventions, and how to reach it."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from positronic import keys
from positronic.codecs.build import Recipe
from positronic.codecs.table import contract_table
from positronic.training.checkpoints import Checkpoint
from positronic.utils.addresses import authority

EVERYWHERE = ("0.0.0.0", "::")


@dataclass(frozen=True)
class Door:
    """Where a server is entered, and with what. ``is_new``: nobody knows the token yet. ``certificate``: its file."""

    host: str
    port: int
    token: str | None = None
    is_new: bool = False
    certificate: str | None = None

    def url(self, scheme: str, path: str) -> str:
        """``scheme``: http or ws; with a certificate these are https and wss."""
        return f"{scheme}{'s' if self.certificate else ''}://{authority(self.reachable, self.port)}{path}"

    @property
    def reachable(self) -> str:
        """A name that clients can use."""
        return socket.gethostname() if self.host in EVERYWHERE else self.host

    @property
    def command(self) -> str:
        """What a client types."""
        words = [f"policy.host={self.reachable}", f"policy.port={self.port}"]
        if self.token is not None:
            words.append(f"policy.token={self.token if self.is_new else '<token>'}")
        if self.certificate is not None:
            words.append("policy.tls=true policy.tls_ca=<copy of the certificate>")
        return " ".join(["python run.py stage=infer hardware=sim policy=remote", *words])


def print_banner(checkpoint: Checkpoint, vendor: str, recipe: Recipe, door: Door) -> None:
    """The server's contract as tables on stdout; a warning on stderr when everybody may come in."""
    table = Table(title="inference server", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in (
        ("checkpoint", f"{checkpoint.id} of {checkpoint.experiment_dir}"),
        ("vendor", vendor),
        ("codec", recipe.codec.name),
        ("models", door.url("http", keys.ROUTE_MODELS)),
        ("sessions", door.url("ws", f"{keys.ROUTE_SESSION}[/<checkpoint>]")),
        ("health", f"{door.url('http', keys.ROUTE_HEALTH)}, {keys.ROUTE_READY}, {keys.ROUTE_METRICS}"),
        ("token", "none" if door.token is None else "needed; a new one, see below" if door.is_new else "needed"),
        ("TLS", "none" if door.certificate is None else f"certificate {door.certificate}"),
    ):
        table.add_row(name, value)
    console = Console(markup=False, highlight=False)
    console.print(table)
    console.print(contract_table(recipe))
    console.print(f"A client: {door.command}", soft_wrap=True)  # in one line, to be copied
    if door.host in EVERYWHERE and door.token is None:
        _warn_open_door(door.host)


def _warn_open_door(host: str) -> None:
    text = (
        f"Listening on every interface ({host}) without a token: whoever reaches this machine can use this server.\n"
        "Set server.token=<secret> or server.token=auto, or server.host=127.0.0.1 for this machine only."
    )
    Console(stderr=True).print(Panel(text, title="WARNING", style="bold red"))
