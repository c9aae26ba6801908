"""Where a policy's pretrained weights are looked for."""

import pytest

import positronic
from positronic.codecs.build import build
from positronic.errors import PositronicError
from positronic.policies.base import base_folder
from positronic.storage.config import StorageConfig
from positronic.training.checkpoints import write_info


def test_a_folder_is_taken_as_it_is(tmp_path):
    with base_folder(str(tmp_path), StorageConfig()) as folder:
        assert folder == tmp_path


def test_a_folder_goes_before_a_name_on_the_hub(tmp_path, monkeypatch):
    (tmp_path / "nvidia" / "GR00T").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with base_folder("nvidia/GR00T", StorageConfig()) as folder:
        assert folder.resolve() == tmp_path / "nvidia" / "GR00T"


def test_random_is_no_folder():
    with base_folder("random", StorageConfig()) as folder:
        assert folder is None


def test_a_folder_that_is_not_there_is_refused_with_what_there_may_be(tmp_path):
    with (
        pytest.raises(PositronicError, match=r"vendor\.base=.*there is no such folder.*organisation/name.*random"),
        base_folder(str(tmp_path / "missing"), StorageConfig()),
    ):
        pass


def test_a_hub_that_cannot_be_reached_is_said_with_a_way_around(monkeypatch):
    """Offline by the hub's own setting, as on a machine without a network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with (
        pytest.raises(PositronicError, match=r"hf download positronic/none.*vendor\.base=<that folder>\.$"),
        base_folder("positronic/none", StorageConfig()),
    ):
        pass


def test_a_checkpoint_of_ours_that_is_not_whole_is_no_base(tmp_path):
    """Named by its own folder or by its experiment's; weights alone would load."""
    checkpoint = tmp_path / "it/checkpoints/000004"
    (checkpoint / "pretrained_model/tokenizer").mkdir(parents=True)
    settings = checkpoint / "pretrained_model/tokenizer/tokenizer_config.json"
    settings.write_text("{}")
    config = positronic.compose(["stage=train", "vendor=openpi", "embodiment=franka"])
    recipe = build(config.codec, config.modality)
    info = {"vendor": "openpi", "recipe": recipe.to_dict(), "training": {"policy": {}}}
    write_info(checkpoint, {"step": 4, **info})
    for base in (checkpoint, tmp_path / "it"):
        with base_folder(str(base), StorageConfig()) as folder:
            assert folder == base
    settings.unlink()
    for base in (checkpoint, tmp_path / "it"):
        with pytest.raises(PositronicError, match=r"tokenizer_config.json is damaged: it is missing"):
            base_folder(str(base), StorageConfig()).__enter__()
