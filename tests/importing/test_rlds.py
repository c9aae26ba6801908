"""RLDS datasets, episode by episode, as TensorFlow Datasets wrote them."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from positronic.errors import PositronicError
from positronic.importing.rlds import RldsSource
from positronic.importing.source import IMAGE, SCALAR, TEXT, VECTOR, How

WRITTEN = Path(__file__).parents[1] / "data" / "rlds"


def test_the_features_of_a_step_are_fields():
    """Found below the folder, in that of the version."""
    fields = RldsSource(WRITTEN).fields()
    assert {name: field.kind for name, field in fields.items()} == {
        **dict.fromkeys(("is_first", "is_last", "reward"), SCALAR),
        **dict.fromkeys(("action", "observation/state"), VECTOR),
        "observation/image": IMAGE,
        "language_instruction": TEXT,
    }
    assert fields["observation/image"].shape == (32, 48, 3)
    assert np.allclose(fields["action"].high, 5 + np.arange(7) / 10)


def test_records_are_episodes():
    first, second = RldsSource(WRITTEN).episodes()
    with second.open({"observation/state": How(fps=10)}) as reading:
        times, values = reading.read("observation/state")
    assert times.tolist() == [0, 10**8, 2 * 10**8, 3 * 10**8]
    assert np.allclose(values, np.arange(8) + np.arange(4)[:, None] / 10)
    assert first.task == "pick up the cube"
    assert first.statics == {"episode_metadata/file_path": "a/b.h5", "episode_metadata/success": True}
    names = ("observation/image", "language_instruction")
    with first.open(dict.fromkeys(names, How(fps=10))) as reading:
        assert [frame[0, 0].tolist() for _, frame in reading.frames(names[0])][5] == [200, 0, 20]
        assert reading.read(names[1]).values == ["pick up the cube"] * 6


def test_the_rate_of_steps_is_asked_for():
    episode = RldsSource(WRITTEN).episodes()[0]
    with (
        pytest.raises(PositronicError, match="RLDS does not say how many steps there are in a second"),
        episode.open({"action": How()}),
    ):
        pass


def test_records_that_contradict_their_description_are_refused(tmp_path):
    folder = Path(shutil.copytree(WRITTEN / "1.0.0", tmp_path / "1.0.0"))
    description = folder / "features.json"
    description.write_text(description.read_text().replace('"7"', '"5"'))
    episode = RldsSource(folder).episodes()[0]
    with (
        pytest.raises(PositronicError, match="42 values in 'action' of .5,. a step are none of an episode of 6 steps"),
        episode.open({"action": How(fps=10)}),
    ):
        pass


def test_a_feature_that_is_not_there_is_named_with_the_nearest():
    episode = RldsSource(WRITTEN).episodes()[0]
    with (
        pytest.raises(PositronicError, match="no field 'actions'. Did you mean 'action'"),
        episode.open({"actions": How()}),
    ):
        pass


def test_several_versions_are_told_apart_by_the_user(tmp_path):
    for version in ("1.0.0", "1.1.0"):
        shutil.copytree(WRITTEN / "1.0.0", tmp_path / version)
    with pytest.raises(PositronicError, match="several datasets"):
        RldsSource(tmp_path)


def test_a_folder_without_records_is_refused(tmp_path):
    shutil.copy(WRITTEN / "1.0.0" / "features.json", tmp_path)
    with pytest.raises(PositronicError, match="no records"):
        RldsSource(tmp_path)
