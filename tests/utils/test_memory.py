"""How much memory there is."""

import os
from types import SimpleNamespace

import pytest

from positronic.utils.memory import UNLIMITED, available_bytes, free_shared_bytes


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        (
            "0::/box\n",
            {"box/memory.max": "900", "box/memory.current": "500", "box/memory.stat": "inactive_file 100"},
            500,
        ),
        ("0::/box\n", {"box/memory.max": "max", "box/memory.current": "500", "box/memory.stat": ""}, 2048),
        (
            "4:memory:/box\n",
            {
                "memory/box/memory.limit_in_bytes": "900",
                "memory/box/memory.usage_in_bytes": "300",
                "memory/box/memory.stat": "cache 7\ntotal_inactive_file 50",
            },
            650,
        ),
        ("", {}, 2048),
    ],
)
def test_a_containers_limit_counts(tmp_path, membership, files, expected):
    """What it leaves, files that can be dropped included; else what the machine has."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "of").write_text(membership)
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:  2 kB\n")
    assert available_bytes(tmp_path / "meminfo", tmp_path, tmp_path / "of") == expected


def test_a_system_that_does_not_tell_has_enough(tmp_path):
    """Nothing is refused on a guess."""
    assert available_bytes(tmp_path / "none", tmp_path, tmp_path / "none") == UNLIMITED


def test_shared_memory_without_a_limit_has_none(tmp_path, monkeypatch):
    """A tmpfs without a size tells 0 blocks, and a Mac has no such folder."""
    assert free_shared_bytes(tmp_path / "none") is None
    for blocks, expected in ((0, None), (9, 2 * 4096)):
        told = SimpleNamespace(f_blocks=blocks, f_bavail=2, f_frsize=4096)
        monkeypatch.setattr(os, "statvfs", lambda path, told=told: told)
        assert free_shared_bytes(tmp_path) == expected
