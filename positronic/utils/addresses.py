"""How the address of a server is written."""

from __future__ import annotations


def authority(host: str, port: int) -> str:
    """Host and port as a URL has them; an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
