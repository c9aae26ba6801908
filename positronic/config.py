"""The typed config: schemas for Hydra, ``compose()`` for notebooks and tests, and the way from config to stage."""

from __future__ import annotations

import cProfile
import dataclasses
import importlib
import io
import json
import os
import pstats
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from positronic import values
from positronic.composition import compose_config, stop
from positronic.embodiments.config import EmbodimentConfig
from positronic.embodiments.embodiment import Embodiment, build_embodiment
from positronic.errors import PositronicError, did_you_mean, listing
from positronic.reads import check_references
from positronic.refusals import unknown_key
from positronic.schemas import SCHEMAS, STAGES, fields_of, module_of
from positronic.stages import convert
from positronic.stages.base import Parts
from positronic.stages.first import missing_dataset
from positronic.storage.uri import LOCAL_SCHEME
from positronic.utils.command_line import Composed, own_files, spelt
from positronic.utils.disk import refused_by_disk
from positronic.utils.fields import IS_PATH
from positronic.utils.files import numbered, replace_text
from positronic.utils.processes import interruptible
from positronic.utils.provenance import PROVENANCE_FILE, provenance
from positronic.utils.secrets import secrets_in, without_secrets
from positronic.vendors import registry

CONF = Path(__file__).resolve().parents[1] / "conf"
MISSING_TEXT = "???"
PROFILE_FILE = "profile.txt"
CLUSTER_SWEEPER = "hydra_plugins.positronic_cluster.ClusterSweeper"
INTERRUPTED = 130  # what a shell reports for Ctrl-C


class StageFailedError(CompactHydraException):
    """A user's mistake in one job of a multirun: printed as text, and the other jobs still run."""


def compose(overrides: Sequence[str], conf_dir: str | Path | None = None) -> Parts:
    """The typed config that ``python run.py <overrides>`` would run with, e.g. ``compose(["stage=train"])``.

    ``conf_dir``: a folder of your own config files beside those of the project, as ``--config-dir``. A value that this
    stage does not need and nobody gave is ``"???"``. May be called anywhere and any number of times; Hydra's global
    state stays as it is. Raises PositronicError for everything that ``run.py`` refuses.
    """
    if isinstance(overrides, str):
        raise PositronicError(f"compose() takes a list, one text for each override: compose({overrides.split()}).")
    own = None if conf_dir is None else Path(conf_dir).expanduser()
    config = typed(compose_config(overrides, CONF, own))
    config.composed = Composed(tuple(overrides), None if own is None else str(own)), deepcopy(config)
    return config


def read_embodiment(place: str | Path) -> Embodiment:
    """The robot of a name in ``conf/embodiment``, or of a YAML file of one's own.

    Raises PositronicError for a name that is not there, and for a file that describes no robot.
    """
    path = Path(place).expanduser()
    if path.suffix not in (".yaml", ".yml"):
        known = sorted(found.stem for found in (CONF / "embodiment").glob("*.yaml"))
        if str(place) not in known:
            raise PositronicError(
                f"embodiment='{place}': expected one of {listing(known)}, or a YAML file of your own."
                f"{did_you_mean(str(place), known)}"
            )
        path = CONF / "embodiment" / f"{place}.yaml"
    try:
        config = OmegaConf.merge(OmegaConf.structured(EmbodimentConfig(name=path.stem)), OmegaConf.load(path))
        values.check_part(config, "embodiment.")
        return build_embodiment(_plain(config))
    except (OSError, YAMLError, OmegaConfBaseException) as error:
        raise PositronicError(f"{path} describes no embodiment: {error}") from None


def composed_from(config: Parts) -> Composed:
    """What ``compose`` was given for this config, and what was changed since: all, if it was made in another way."""
    names = [field.name for field in dataclasses.fields(config)]
    if config.composed is None:
        return Composed((), changed=frozenset(names))
    composed, as_it_was = config.composed
    return composed._replace(changed=frozenset(n for n in names if getattr(config, n) != getattr(as_it_was, n)))


def check(config: Parts) -> None:
    """Check a config that was perhaps changed after ``compose``, by the rules of composition.

    Raises PositronicError for an attribute that is no parameter, a value of another kind or outside of its rule, and
    for one that is missing.
    """
    if type(config) is not STAGES.get(config.stage):
        raise PositronicError(f"stage={config.stage}: found a {type(config).__name__}. Compose that stage's config.")
    for key, known in _unknown_names(config, ""):
        raise unknown_key(key, config.stage, known)
    try:
        cfg = OmegaConf.structured(config)
    except OmegaConfBaseException as error:
        raise PositronicError(f"stage={config.stage}, {error.full_key}: {str(error).splitlines()[0]}") from None
    values.check(cfg)


def typed(cfg: DictConfig) -> Parts:
    """A composed config as dataclasses: references are resolved, hydra's own node is left out, ``~/`` and ``file://``
    are replaced in paths."""
    return _plain(cfg)


def run_stage(cfg: DictConfig) -> None:
    """Write down where this run comes from, then run its stage.

    A PositronicError ends the process with its message and exit code 1, a signal that stops it with 130. In a
    multirun a PositronicError fails only its own job.
    """
    hydra = HydraConfig.get()
    try:
        check_references(cfg, in_job=True)
    except PositronicError as error:
        raise _refused(hydra, error) from None
    config = typed(cfg)
    folder = Path(hydra.runtime.output_dir)
    try:
        with interruptible(last=True), disk_in_a_sentence():
            _hide_secrets(hydra, config)
            overrides = OmegaConf.to_container(hydra.overrides.task, resolve=False)
            _write_provenance(folder, config, overrides)
            with _profiled(folder) if config.profile else nullcontext():
                run_typed(config, Composed(tuple(overrides), own[1] if (own := own_files()) else None))
    except KeyboardInterrupt:
        print(f"Interrupted: stage={config.stage}.", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    except PositronicError as error:
        raise _refused(hydra, error) from None


def run_typed(config: Parts, composed: Composed) -> Any:
    """Run the config's stage, and before it the one that makes what is missing.

    ``composed``: what ``config`` was composed from. Raises PositronicError for everything that a user can mend.
    """
    missing = missing_dataset(config, composed)
    if missing is not None:
        print(f"There is no dataset at {config.input_path} yet: {config.dataset.path} is baked first.", flush=True)
        try:
            convert.bake(compose(missing, composed.conf_dir))
        except PositronicError as error:
            raise PositronicError(f"{error}\nThat was to make the dataset:\n  {spelt(missing)}") from error
    return stage_of(config)(config)


def stage_of(config: Parts) -> Callable[[Parts], Any]:
    """The function that runs the config's stage and returns its result."""
    return importlib.import_module(f"positronic.stages.{module_of(config.stage)}").run


def _refused(hydra: DictConfig, error: PositronicError) -> BaseException:
    return StageFailedError(str(error)) if hydra.mode == RunMode.MULTIRUN else stop(error)


@contextmanager
def disk_in_a_sentence() -> Iterator[None]:
    """Turns errors of the disk into sentences, because a user can mend them."""
    try:
        yield
    except PositronicError:
        raise
    except Exception as error:
        refused = refused_by_disk(error)
        if refused is None:
            raise
        raise refused from error


def _unknown_names(node: Any, path: str) -> Iterator[tuple[str, list[str]]]:
    """Attributes of a config that are no fields, each with the keys that there are beside it."""
    fields = [field.name for field in dataclasses.fields(node)]
    for name, value in vars(node).items():
        if name not in fields and name != "composed":
            yield f"{path}{name}", [f"{path}{field}" for field in fields]
        elif dataclasses.is_dataclass(value):
            yield from _unknown_names(value, f"{path}{name}.")


def _register() -> None:
    store = ConfigStore.instance()
    for path, schema in SCHEMAS.items():
        group, _, name = f"schema/{path}".rpartition("/")
        store.store(group=group, name=name, node=schema)
    store.store(group="hydra/sweeper", name="positronic", node={"_target_": CLUSTER_SWEEPER})
    OmegaConf.register_new_resolver("basename", _basename, replace=True)
    OmegaConf.register_new_resolver("by_backend", _by_backend, replace=True)
    OmegaConf.register_new_resolver("new_folder", _new_folder, use_cache=True, replace=True)


def _basename(path: str) -> str:
    """The last part of a path or URI; of ``.`` too, which has a name only on this machine."""
    return path.rstrip("/").rpartition("/")[2] if "://" in path else Path(path).expanduser().resolve().name


def _by_backend(backend: str, native: str, upstream: str) -> str:
    """The value for this ``vendor.backend``."""
    return upstream if backend == registry.UPSTREAM else native


def _new_folder(path: str) -> str:
    """``path``, made now; ``path_2``, ``path_3``, ... when it is there: runs begun in one second have their own.

    Resolved once for each config, which Hydra hands on to the jobs of a sweep.
    """
    return next(folder for folder in numbered(path) if _is_made(folder))


def _is_made(folder: str) -> bool:
    try:
        Path(folder).mkdir(parents=True)
    except FileExistsError:  # of a run that was begun a moment ago, perhaps in another process
        return False
    return True


def _plain(node: Any) -> Any:
    if isinstance(node, ListConfig):
        return [_plain(item) for item in node]
    if not isinstance(node, DictConfig):
        return node
    plain = {str(name): _plain_child(node, name) for name in node if name != "hydra"}
    schema = OmegaConf.get_type(node)
    if not dataclasses.is_dataclass(schema):
        return plain
    paths = [name for name, field in fields_of(schema).items() if field.metadata.get(IS_PATH)]
    return schema(**plain | {name: _local(plain[name]) for name in paths if name in plain})


def _local[T: (str, list[str], None)](path: T) -> T:
    """No shell expands ``output_dir=~/x``. ``file:///x`` is ``/x``."""
    if isinstance(path, list):
        return [_local(each) for each in path]
    return path if path is None else os.path.expanduser(path.removeprefix(LOCAL_SCHEME))


def _plain_child(node: DictConfig, name: Any) -> Any:
    try:
        return _plain(node[name])
    except MissingMandatoryValue:
        return MISSING_TEXT
    except InterpolationResolutionError:  # of a value that this stage does not read: check_references asks for those
        return MISSING_TEXT


def _write_provenance(folder: Path, config: Parts, overrides: list[str]) -> None:
    record = {"overrides": overrides, **provenance(), "config": dataclasses.asdict(config)}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PROVENANCE_FILE).write_text(json.dumps(without_secrets(record), indent=1) + "\n")


def _hide_secrets(hydra: DictConfig, config: Parts) -> None:
    """Hydra wrote what was typed beside the results, secrets included: write those files again without them."""
    known = set(secrets_in(dataclasses.asdict(config)))
    if not known:
        return
    for path in _written_by(hydra):
        wrote = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
        with suppress(FileNotFoundError):  # another job of this multirun has just put the same there
            replace_text(path, OmegaConf.to_yaml(OmegaConf.create(without_secrets(wrote, known))))


def _written_by(hydra: DictConfig) -> list[Path]:
    paths = list((Path(hydra.runtime.output_dir) / (hydra.output_subdir or "")).glob("*.yaml"))
    sweep = Path(hydra.sweep.dir) / "multirun.yaml"
    return [*paths, sweep] if hydra.mode == RunMode.MULTIRUN and sweep.exists() else paths


@contextmanager
def _profiled(folder: Path) -> Iterator[None]:
    profile = cProfile.Profile()
    try:
        with profile:
            yield
    finally:
        text = io.StringIO()
        pstats.Stats(profile, stream=text).sort_stats("cumulative").print_stats(60)
        (folder / PROFILE_FILE).write_text(text.getvalue())


_register()
