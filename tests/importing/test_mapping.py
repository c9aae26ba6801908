"""The mapping in YAML: what is written is read again, and what cannot be is refused by name."""

import pytest

from positronic import keys
from positronic.errors import PositronicError
from positronic.importing.mapping import OPEN, ImportMapping, SignalMapping, read_mapping, to_yaml, write_mapping

POSE = SignalMapping(("pos", "quat"), (0, 1, 2, "qx"), "m", "quat_xyzw", base=(0.5, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0))
MAPPING = ImportMapping(
    source="lerobot",
    embodiment="so101",
    signals={
        keys.JOINT_POSITION: SignalMapping(("observation.state",), ("shoulder_pan.pos", 1), "degrees"),
        keys.GRIP: SignalMapping(("observation.state",), ("gripper.pos",), open=100.0, closed=0.0),
        keys.EE_POSE: POSE,
        keys.IMAGE_WRIST: SignalMapping(("a: field # that YAML minds",), clock="header", channels="bgr"),
    },
    task="Stack: the # cups",
    fps=50.0,
    left_out=("next.reward",),
)


def test_what_is_written_is_read_again(tmp_path):
    """Every part of a mapping, with remarks in it."""
    path = tmp_path / "mapping.yaml"
    write_mapping(path, MAPPING, {f"signals.{keys.GRIP}.open": "by the name\nof the joint"})
    assert read_mapping(path) == MAPPING
    assert "    open: 100  # by the name of the joint\n" in path.read_text()


def test_what_nobody_decided_is_named(tmp_path):
    """By its place in the file."""
    signals = {keys.GRIP: SignalMapping(("state",), open=OPEN, closed=0.0)}
    path = tmp_path / "mapping.yaml"
    write_mapping(path, ImportMapping("hdf5", OPEN, signals))
    assert read_mapping(path).undecided == ["embodiment", f"signals.{keys.GRIP}.open"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("unit: degrees", "unit: degree"), "unit: degree; expected one of .* Did you mean 'degrees'"),
        (("rotation: quat_xyzw", "rotation: xyzw"), "rotation: xyzw; expected one of"),
        (("open: 100", "open: wide"), "grip.open: expected a number, found 'wide'"),
        (("    from: 'a", "    form: 'a"), "'form' is not known there. Did you mean 'from'"),
        (("  grip:", f"  {keys.JOINT_POSITION}:"), "expected a mapping in YAML .*duplicate key"),
        (("source: lerobot", "source: [lerobot"), "expected a mapping in YAML"),
        (("source:", "sorce:"), "'sorce' is not known there. Did you mean 'source'"),
    ],
)
def test_what_cannot_be_is_refused_with_file_and_place(tmp_path, change, message):
    """A slip in any line, a raw key that is there twice among them."""
    path = tmp_path / "mapping.yaml"
    text = to_yaml(MAPPING)
    path.write_text(text.replace(*change))
    assert path.read_text() != text
    with pytest.raises(PositronicError, match=f"(?s){path}.*{message}"):
        read_mapping(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    """With the parameter to type."""
    with pytest.raises(PositronicError, match=r"mapping=.*none.yaml: there is no such file"):
        read_mapping(tmp_path / "none.yaml")
