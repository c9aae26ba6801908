"""Entries of the cache: filled once, and never waited for in vain."""

import threading
from concurrent.futures import ThreadPoolExecutor

from positronic.storage import StorageConfig, entries
from positronic.storage.entries import Entry, hold


class Text:
    """A file as an entry."""

    size, waiting, made = 1, "Another process writes it; waiting for it.", "written"

    def __init__(self, folder):
        self.config = StorageConfig(cache_dir=str(folder))
        self.filled = 0

    def is_whole(self, entry):
        return (entry.files / "text").exists()

    def fill(self, entry):
        self.filled += 1
        (entry.files / "text").write_text("x")
        return {}


def entry_in(folder):
    return Entry(folder / "a", folder / "a" / "files")


def test_who_wants_to_fill_what_another_has_just_filled_takes_it_up(tmp_path, monkeypatch):
    """Though the other one, who was quicker by a moment, holds it from then on: that may be for days."""
    entry, quicker, slower = entry_in(tmp_path), Text(tmp_path), Text(tmp_path)
    held, lock_alone = [], entries._lock_alone

    def after_the_other(path):
        monkeypatch.setattr(entries, "_lock_alone", lock_alone)
        held.append(hold(entry, quicker))
        return lock_alone(path)

    monkeypatch.setattr(entries, "_lock_alone", after_the_other)
    thread = threading.Thread(target=lambda: held.append(hold(entry, slower)), daemon=True)
    thread.start()
    thread.join(20)
    assert len(held) == 2
    assert (quicker.filled, slower.filled) == (1, 0)


def test_many_that_want_the_same_fill_it_once(tmp_path):
    """At the same moment, again and again."""
    for number in range(20):
        entry, content = entry_in(tmp_path / str(number)), Text(tmp_path)
        with ThreadPoolExecutor(8) as pool:
            held = list(pool.map(lambda _, entry=entry, content=content: hold(entry, content), range(8)))
        assert len(held) == 8
        assert content.filled == 1
