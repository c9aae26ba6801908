"""One recorded episode: its signals, statics and meta data, each read when asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from positronic import keys
from positronic.embodiments.embodiment import Embodiment
from positronic.errors import PositronicError, did_you_mean, listing
from positronic.raw.edits import NO_EDITS, Edits
from positronic.raw.faults import BadEpisode, MissingSignal
from positronic.raw.fingerprint import file_digest, fingerprint, replaced
from positronic.raw.folder import EpisodeFolder, episode_folder, read_meta, recorded_uid, uid_of
from positronic.raw.kinds import JOINTS, kind_of, remedy
from positronic.raw.layout import EDITS_FILE, INDEX_SUFFIX, META_FILE, STATICS_FILE, VECTOR_SUFFIX, VIDEO_SUFFIX
from positronic.raw.naming import Naming, current_name
from positronic.raw.plausible import require_one_clock, require_plausible_length, require_plausible_times
from positronic.raw.signals import VectorSignal
from positronic.raw.statics import read_statics
from positronic.raw.timeline import NS_PER_SEC, as_times
from positronic.raw.video import VideoSignal
from positronic.utils.html import as_html

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Group

Signal = VectorSignal | VideoSignal

__all__ = ["BadEpisode", "Episode", "MissingSignal", "Signal", "Signals"]


class Signals(Mapping[str, Signal]):
    """Signals of one episode by offered name; the folder is listed at first use, files are opened by the signals."""

    def __init__(self, folder: EpisodeFolder, naming: Naming) -> None:
        self._folder = folder
        self._naming = naming
        self._opened: dict[str, Signal] = {}

    def __getitem__(self, name: str) -> Signal:
        if name not in self._opened:
            self._opened[name] = self._open(name)
        return self._opened[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._offered)

    def __len__(self) -> int:
        return len(self._offered)

    def __contains__(self, name: object) -> bool:
        return name in self._offered

    @cached_property
    def _files(self) -> frozenset[str]:
        return self._folder.names

    @property
    def sources(self) -> Set[str]:
        """Every name that an alias may be taken from."""
        return self._naming.sources(self._recorded).keys()

    @cached_property
    def _offered(self) -> dict[str, str]:
        return self._naming.offered(self._recorded)

    @cached_property
    def _recorded(self) -> frozenset[str]:
        """A camera is named by its mp4 or by its index: a camera that lacks one of them is listed too, and is bad when
        it is read."""
        videos = {
            file.removesuffix(end) for end in (VIDEO_SUFFIX, INDEX_SUFFIX) for file in self._files if file.endswith(end)
        }
        vectors = {
            file.removesuffix(VECTOR_SUFFIX)
            for file in self._files
            if file.endswith(VECTOR_SUFFIX) and not file.endswith(INDEX_SUFFIX)
        }
        return frozenset(videos | vectors)

    def _open(self, name: str) -> Signal:
        recorded, folder = self._offered[name], self._folder.path
        if self._files & {recorded + VIDEO_SUFFIX, recorded + INDEX_SUFFIX}:
            return VideoSignal(name, folder, recorded)
        path = folder / f"{recorded}{VECTOR_SUFFIX}"
        return VectorSignal(name, path, self._naming.is_inverted(name, recorded))


class Episode:
    """A finished episode at ``place`` (``<root>/<block>/<id>``).

    Nothing is read, and nothing is fetched from an object store, before it is asked for. The episode and its signals
    raise BadEpisode when what is asked for cannot be read.
    """

    def __init__(self, place: Path | EpisodeFolder, naming: Naming | None = None, edits: Edits = NO_EDITS) -> None:
        self.place = episode_folder(place)
        if not self.place.is_finished:
            raise BadEpisode(self.path, "it is unfinished: it is still being recorded, or its recording crashed.")
        self.naming = naming or Naming()
        self.signals: Signals = Signals(self.place, self.naming)
        self._edits = edits

    def __repr__(self) -> str:
        return f"Episode({self.id}, {str(self.place)!r})"

    def __rich__(self) -> Group:
        """Statics and signals as tables."""
        from positronic.raw.tables import episode_table

        return episode_table(self)

    def _repr_html_(self) -> str:
        return as_html(self)

    def without_cameras(self) -> Episode:
        """The same episode for a reader of vectors: from an object store its videos are not fetched."""
        return Episode(self.place.without_cameras(), self.naming, self._edits)

    @property
    def path(self) -> Path:
        """Its folder on this machine; an episode in an object store is fetched."""
        return self.place.path

    @property
    def id(self) -> int:
        """Number of the episode in its dataset's folder; gaps are normal."""
        return int(self.place.name)

    @cached_property
    def meta(self) -> dict[str, Any]:
        """``meta.json`` (who wrote it, and when) with the actual path. If the file is broken, only the path."""
        return read_meta(self.path) | {"path": str(self.path)}

    @property
    def uid(self) -> str:
        """Unique id. Older recordings have none; there it is made of the time of creation."""
        return uid_of(self.meta, self.place.name)

    @cached_property
    def statics(self) -> dict[str, Any]:
        """What was true throughout the episode, after edits.

        Raises BadEpisode when nobody can say which edits belong to this episode: an episode that the edits drop would
        come back.
        """
        if self._edits.names_episodes and not self.is_known:
            raise BadEpisode(
                self.path,
                f"{META_FILE} is missing or broken, so that its uid is not known, and {EDITS_FILE} may drop or change "
                f"this episode. Copy {META_FILE} again, or remove the episode's folder.",
            )
        return read_statics(self.path / STATICS_FILE) | self._edits.statics.get(self.uid, {})

    @property
    def is_known(self) -> bool:
        """Whether ``meta.json`` says which episode this is."""
        return recorded_uid(self.meta) is not None

    @property
    def joint_names(self) -> tuple[str, ...] | None:
        """Names of the joints, in order, where the recorder noted them. Raises BadEpisode when that is no list of
        names."""
        names = self.statics.get(keys.JOINT_NAMES)
        if names is None:
            return None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise BadEpisode(self.path, f"static '{keys.JOINT_NAMES}' holds {names!r}, a list of names was expected.")
        return tuple(names)

    @property
    def embodiment(self) -> Embodiment | None:
        """The robot, where the recorder noted it; an alias renames its camera. Raises BadEpisode when what it noted is
        none."""
        noted = self.statics.get(keys.EMBODIMENT)
        try:
            return None if noted is None else self._renamed(Embodiment.from_dict(noted))
        except PositronicError as error:
            raise BadEpisode(self.path, f"static '{keys.EMBODIMENT}': {error}") from None

    def _renamed(self, robot: Embodiment) -> Embodiment:
        """The robot with its cameras under the names that they are offered by."""
        images = {source: name for name, source in self.naming.aliases.items() if name.startswith(keys.IMAGE_PREFIX)}
        offered = {name: images.get(keys.IMAGE_PREFIX + name, name) for name in robot.cameras}
        cameras = {offered[name].removeprefix(keys.IMAGE_PREFIX): role for name, role in robot.cameras.items()}
        return replace(robot, cameras=cameras)

    def __getitem__(self, name: str) -> Signal:
        """A signal, also by its newer spelling. Raises MissingSignal (a PositronicError) with the nearest name."""
        for known in (name, current_name(name)):
            if known in self.signals:
                return self.signals[known]
        raise MissingSignal(self.path, self._missing(name))

    def _missing(self, name: str) -> str:
        recorded = self.naming.aliases.get(name)
        if recorded is None:
            return f"no signal '{name}'.{remedy(name, self.signals)}"
        hint = did_you_mean(recorded, self.signals.sources)
        present = listing(self.signals)
        return f"no signal '{name}' (dataset.aliases takes it from '{recorded}').{hint} Present: {present}."

    @property
    def start_ns(self) -> int:
        """When the last of all its signals starts."""
        return self.start_of(self._sampled())

    @property
    def last_ns(self) -> int:
        """The last stamp of any of its signals."""
        return self.last_of(self._sampled())

    @property
    def duration_ns(self) -> int:
        """``last_ns - start_ns``, from meta data when it is there."""
        recorded = self.meta.get("duration_ns")
        return recorded if isinstance(recorded, int) else self.last_ns - self.start_ns

    @property
    def duration_sec(self) -> float:
        """The same in seconds."""
        return self.duration_ns / NS_PER_SEC

    def at(
        self, t: float | None = None, *, time_ns: int | None = None, signals: Iterable[str] | None = None
    ) -> dict[str, Any]:
        """What every signal said at a moment, by name: the last sample at or before it, () or (D,) as recorded, a
        camera's frame as uint8 RGB (H, W, 3). Signals without samples are left out.

        The moment is ``t`` seconds after the episode's start, or the stamp ``time_ns``. ``signals``: only these, so
        that no other camera is decoded. Raises PositronicError for a moment before a signal's first sample or after
        the episode's end, and for a signal that is not there.
        """
        names = self._sampled() if signals is None else list(signals)
        moment = self._moment(t, time_ns)
        return {name: self[name].at(moment) for name in names}

    def plot(self, signals: Iterable[str] | None = None) -> Figure:
        """A matplotlib figure: a strip of frames of each camera, and every signal of numbers over the same seconds.

        ``signals``: only these. Raises PositronicError without matplotlib, and when there is nothing to draw.
        """
        from positronic.raw.episode_plot import episode_figure

        return episode_figure(self, self._sampled() if signals is None else list(signals))

    def _moment(self, t: float | None, time_ns: int | None) -> int:
        if (t is None) == (time_ns is None):
            raise PositronicError(
                "Episode.at takes one moment: at(1.5), in seconds from the start, or at(time_ns=...)."
            )
        moment = self.start_ns + round(t * NS_PER_SEC) if time_ns is None else int(as_times(time_ns))
        if not moment <= self.last_ns or (time_ns is None and t < 0):
            asked = f"{t} s" if time_ns is None else f"time_ns={time_ns}"
            raise PositronicError(
                f"{self.path}: {asked} is not in the episode, which lasts from 0 to "
                f"{(self.last_ns - self.start_ns) / NS_PER_SEC:.9g} s (time_ns={self.start_ns} to {self.last_ns})."
            )
        return moment

    def start_of(self, names: Iterable[str]) -> int:
        """When the last of the given signals starts, ns: from here on each of them has a value."""
        return max(self._stamps(name)[0] for name in names)

    def last_of(self, names: Iterable[str]) -> int:
        """The last stamp of any of the given signals, ns."""
        return max(self._stamps(name)[-1] for name in names)

    def validate(self, signal_names: Iterable[str]) -> None:
        """Read these signals throughout; videos are not decoded.

        Raises BadEpisode: a signal missing, empty, unreadable, damaged, going back in time, ragged, not finite; a video
        truncated, without its index, or with another number of frames; stamps and values that no robot makes
        (``raw.plausible``).
        """
        names = list(signal_names)
        for name in names:
            signal = self[name]
            self._stamps(name)
            signal.check()
            require_plausible_times(signal.times_ns, signal.files[-1])
        self._require_joint_names(names)
        if names:
            require_plausible_length(self.start_of(names), self.last_of(names), self.path)
            require_one_clock({name: self._stamps(name) for name in names}, self.path)

    def _require_joint_names(self, signals: Iterable[str]) -> None:
        listed = self.joint_names
        for name in signals if listed else ():
            if kind_of(name) is JOINTS and self[name].shape != (len(listed),):
                found = f"'{name}' has shape {self[name].shape}"
                raise BadEpisode(self.path, f"static '{keys.JOINT_NAMES}' lists {len(listed)} joints, {found}.")

    def fingerprint(self) -> str:
        """sha256 (hex) of the recorded signal files and the statics after edits; not of time, machine or path.

        Raises BadEpisode when a file, statics included, is damaged and ``meta.json`` notes what it was.
        """
        _ = self._replaced
        return fingerprint(self._digests, self.statics)

    @property
    def notes(self) -> list[str]:
        """What the report should say about the episode, although it may well be good."""
        unknown = [] if self.is_known else [f"{META_FILE} is missing or broken, so its notes cannot be compared."]
        return unknown + [f"{name} is not the file that was recorded." for name in self._replaced]

    @cached_property
    def _digests(self) -> dict[str, str]:
        files = {file.name: file for signal in self.signals.values() for file in signal.files}
        return {name: file_digest(file) for name, file in files.items()}

    @cached_property
    def _replaced(self) -> list[str]:
        statics = self.path / STATICS_FILE
        present = {STATICS_FILE: file_digest(statics)} if statics.exists() else {}
        return list(replaced(self.path, self._digests | present, self.meta))

    def _sampled(self) -> list[str]:
        names = [name for name, signal in self.signals.items() if len(signal.times_ns)]
        if not names:
            raise BadEpisode(self.path, "no signal has any samples.")
        return names

    def _stamps(self, name: str) -> list[int]:
        times = self[name].times_ns
        if not len(times):
            raise BadEpisode(self.path, f"signal '{name}' has no samples.")
        return [int(times[0]), int(times[-1])]
