"""Local and remote folders of episodes are read by the same code."""

from pathlib import Path

import pytest

from positronic import keys
from positronic.raw.episode import Episode
from positronic.raw.faults import BadEpisode
from positronic.raw.folder import LocalEpisode


class FarEpisode:
    """A folder that is somewhere else until its files are asked for."""

    def __init__(self, path: Path, names: frozenset[str]) -> None:
        self.names, self.name, self.fetched, self._path = names, path.name, False, path

    @property
    def is_finished(self) -> bool:
        return keys.UNFINISHED not in self.names

    @property
    def path(self) -> Path:
        self.fetched = True
        return self._path

    def prefetch(self) -> None:
        self.fetched = True


def test_an_episode_is_read_from_any_folder(record):
    """Whatever offers the folder protocol is an episode; its files are fetched when one of them is read."""
    local = record()
    far = FarEpisode(local.path, LocalEpisode(local.path).names)
    episode = Episode(far)
    assert (episode.id, set(episode.signals), far.fetched) == (local.id, set(local.signals), False)
    assert episode[keys.GRIP].values.tolist() == local[keys.GRIP].values.tolist()
    assert far.fetched


def test_an_unfinished_episode_is_refused_wherever_it_lies(record):
    """The marker counts for every kind of folder."""
    far = FarEpisode(record().path, frozenset({keys.UNFINISHED}))
    with pytest.raises(BadEpisode, match="unfinished"):
        Episode(far)
