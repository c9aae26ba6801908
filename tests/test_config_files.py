"""Every file in conf/ composes with every valid partner, and says what it is for."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

import positronic
from positronic import geometry
from positronic.codecs.build import LABELS, build
from positronic.codecs.config import CodecConfig
from positronic.codecs.parts import ARMS, MEASURED
from positronic.schemas import STAGES
from positronic.utils.fields import RULE

CONF = Path(__file__).resolve().parents[1] / "conf"
# What a person has to type so that a stage composes at all.
NEEDED = {"serve": ["checkpoints_dir=x"], "import": ["source=hdf5", "path=x"], "compare": ["rollouts=[x,y]"]}
NEEDED_BY_CHOICE = {
    "dataset=local": ["dataset.path=x"],
    "dataset=lerobot": ["dataset.path=x"],
    "hardware=replay": ["hardware.path=x"],
    "policy=local": ["policy.checkpoints_dir=x"],
}


def choices(group):
    return sorted(path.stem for path in (CONF / group).glob("*.yaml") if not path.stem.startswith("_"))


def compose(stage, *typed):
    needed = [extra for choice in typed for extra in NEEDED_BY_CHOICE.get(choice, [])]
    return positronic.compose([f"stage={stage}", *NEEDED.get(stage, []), *typed, *needed])


def pairs():
    return [(path.parent.name, path.stem) for path in sorted(CONF.glob("modality/*/*.yaml")) if path.stem[0] != "_"]


def test_each_stage_has_its_file_and_each_file_its_stage():
    """conf/stage and the dataclasses name the same stages."""
    assert choices("stage") == sorted(STAGES)


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONF)))
def test_a_file_says_what_it_is_for(path):
    """In its first line, or behind the package that Hydra wants first."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("# @package")]
    assert lines[0].startswith("# ")
    assert len(lines[0]) > 20


@pytest.mark.parametrize("pair", pairs(), ids="/".join)
def test_every_pair_composes_and_builds(pair):
    """A modality's file is what makes a pair valid, and its columns come from features that the codec has."""
    vendor, codec = pair
    config = compose("infer", f"vendor={vendor}", f"codec={codec}")
    if codec != "from_checkpoint":
        recipe = build(config.codec, config.modality)
        assert recipe.codec.name in codec or codec.startswith("eepose")


@pytest.mark.parametrize("vendor", choices("vendor"))
def test_a_vendor_alone_is_complete(vendor):
    """It brings its default codec."""
    config = compose("convert", f"vendor={vendor}")
    assert (CONF / "modality" / vendor / f"{config.codec.name}.yaml").exists()


def test_every_codec_belongs_to_some_vendor():
    """A codec without a modality could never be chosen."""
    assert {codec for _, codec in pairs()} == set(choices("codec"))


GROUPS = {  # and a stage that uses it
    "dataset": "convert",
    "hardware": "infer",
    "server": "serve",
    "policy": "infer",
    "driver": "infer",
    "tracker": "train",
}
CHOICES = [f"{group}={choice}" for group in GROUPS for choice in choices(group)]


@pytest.mark.parametrize("typed", CHOICES)
def test_every_choice_composes_and_is_typed(typed):
    """As a dataclass, named after its file where it has a name."""
    group, _, choice = typed.partition("=")
    part = getattr(compose(GROUPS[group], typed), group)
    assert part.__class__.__name__.endswith("Config")
    assert group == "dataset" or getattr(part, "name", choice) == choice


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("preset", [f"+{g}={c}" for g in ("experiment", "debug") for c in choices(g)])
def test_every_preset_composes_with_every_stage(preset, stage):
    """Its sections name parameters that the stages have."""
    assert compose(stage, preset).stages == {}


def test_a_preset_s_sections_are_named_after_stages():
    """A misspelt one would never be read."""
    for group in ("experiment", "debug"):
        for choice in choices(group):
            assert set(OmegaConf.load(CONF / group / f"{choice}.yaml").get("stages", {})) <= set(STAGES)


def test_a_codec_s_possible_values_are_those_that_the_codec_builds():
    """Said twice, because the config may not import the codecs' room."""
    expected = {"rotation": tuple(geometry.ROTATION_DIMS), "action": ARMS, "label": LABELS, "state": tuple(MEASURED)}
    for name, options in expected.items():
        assert set(CodecConfig.__dataclass_fields__[name].metadata[RULE].options) == set(options)
