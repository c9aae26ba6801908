"""What is made before a stage when it is missing: the dataset of stage=train."""

from __future__ import annotations

from positronic import keys
from positronic.stages.base import Parts
from positronic.stages.train import Train, bake_values
from positronic.utils.command_line import Composed, is_shared, key_of, overrides_for

CONVERT = "convert"


def missing_dataset(config: Parts, composed: Composed) -> list[str] | None:
    """The overrides of the stage=convert that makes the dataset of ``config``; None if it is there, or is not to be
    made.

    It is made where no ``input_path`` was typed and the recording was: only then is it known what to bake.
    ``composed``: what ``config`` was composed from. Raises PositronicError for an experiment that training would refuse
    anyway: a bake may take hours.
    """
    if not isinstance(config, Train) or config.preflight or not _names_recording(config, composed):
        return None
    if _is_there(config):
        return None
    _require_trainable(config)
    return overrides_for(CONVERT, composed.overrides, bake_values(config))


def _names_recording(config: Train, composed: Composed) -> bool:
    """Whether ``dataset=`` or ``dataset.path=`` was typed, of raw recordings, and nothing was changed since."""
    from positronic.stages.foreign import is_foreign

    typed = {key_of(each) for each in composed.overrides}
    known = not any(is_shared(name) for name in composed.changed) and "input_path" not in {*typed, *composed.changed}
    return known and not is_foreign(config) and bool({"dataset", "dataset.path"} & typed)


def _is_there(config: Train) -> bool:
    from positronic.storage import exists
    from positronic.storage.folder import folder

    place = folder(config.input_path, config.storage)
    return exists(place.local) if place.local is not None else place.read_bytes(keys.MANIFEST_FILE) is not None


def _require_trainable(config: Train) -> None:
    from positronic.storage import is_remote, join, local_path
    from positronic.training.experiment import require_free
    from positronic.utils.command_line import again
    from positronic.vendors import registry

    registry.backend_of(config.vendor.name, config.vendor.backend).require_installed(config.vendor)
    place = join(config.output_dir, config.exp_name)
    if not config.resume and not is_remote(place):
        require_free(local_path(place), again("resume=true"))
