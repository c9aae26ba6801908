"""Records that TensorFlow Datasets wrote, read without it.

``tests/data/rlds`` was written by tensorflow_datasets 4.9.10: two episodes, of six and four steps.
"""

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from positronic.errors import PositronicError
from positronic.importing.pictures import decode
from positronic.importing.rlds_features import IMAGE, OTHER, TENSOR, TEXT, Leaf, read_features
from positronic.importing.tfrecords import read_example, spans

WRITTEN = Path(__file__).parents[1] / "data" / "rlds" / "1.0.0"
RECORDS = "toy-train.tfrecord-00000-of-00001"


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(WRITTEN, tmp_path / "1.0.0"))


def test_the_features_say_what_a_step_and_an_episode_hold():
    step, episode = read_features(WRITTEN)
    assert step == {
        "observation/image": Leaf(IMAGE, (32, 48, 3), "uint8"),
        "observation/state": Leaf(TENSOR, (8,), "float32", "none"),
        "action": Leaf(TENSOR, (7,), "float32", "none"),
        "is_first": Leaf(TENSOR, (), "bool", "none"),
        "is_last": Leaf(TENSOR, (), "bool", "none"),
        "reward": Leaf(TENSOR, (), "float32", "none"),
        "language_instruction": Leaf(TEXT),
    }
    assert episode == {
        "episode_metadata/file_path": Leaf(TEXT),
        "episode_metadata/success": Leaf(TENSOR, (), "bool", "none"),
    }


def test_an_episode_comes_back_as_it_was_written():
    first, second = (read_example(WRITTEN / RECORDS, span) for span in spans(WRITTEN / RECORDS))
    step, _ = read_features(WRITTEN)
    assert first["episode_metadata/file_path"] == [b"a/b.h5"]
    assert first["steps/language_instruction"] == [b"pick up the cube"] * 6
    actions = step["action"].numbers(first["steps/action"])
    assert np.array_equal(actions, (np.arange(7) / 10 + np.arange(6)[:, None]).astype(np.float32))
    assert step["is_last"].numbers(second["steps/is_last"]).tolist() == [False, False, False, True]
    assert (decode(first["steps/observation/image"][5], "frame") == (200, 0, 20)).all()


@pytest.mark.parametrize(("left", "what"), [(-1, "cut off in record 1"), (1525, "no TFRecord at byte 1518")])
def test_records_that_are_cut_off_are_refused(folder, left, what):
    """In the data of a record, and in its length."""
    path = folder / RECORDS
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(PositronicError, match=what):
        spans(path)


def test_what_is_no_record_is_refused(folder):
    path = folder / RECORDS
    path.write_bytes(b"something else altogether")
    with pytest.raises(PositronicError, match="no TFRecord at byte 0"):
        spans(path)


@pytest.mark.parametrize("data", [b"\x0a\xff", b"\x0a\x05\x0a\x03\x0a\x01\xff", b"\xff" * 20, b"\x0b"])
def test_a_record_that_is_no_example_is_refused(tmp_path, data):
    path = tmp_path / "records"
    path.write_bytes(data)
    with pytest.raises(PositronicError, match="the record at byte 0 is no tf.train.Example"):
        read_example(path, (0, len(data)))


def varint(value):
    value &= (1 << 64) - 1
    groups = [value >> shift & 0x7F for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])


def part(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def example(name, feature):
    return part(1, part(1, part(1, name.encode()) + part(2, feature)))


@pytest.mark.parametrize(
    ("feature", "values"),
    [
        (part(3, part(1, b"".join(map(varint, (0, -1, 300, -(1 << 63)))))), [0, -1, 300, -(1 << 63)]),
        (part(3, b"".join(b"\x08" + varint(value) for value in (5, -7))), [5, -7]),
        (part(2, b"".join(b"\x0d" + struct.pack("<f", value) for value in (0.5, -2))), [0.5, -2]),
        (part(1, b""), []),
        (b"", []),
    ],
)
def test_every_form_of_a_list_is_read(tmp_path, feature, values):
    """Writers may put numbers into a list one by one; and a list may be empty."""
    path = tmp_path / "records"
    path.write_bytes(data := example("x", feature))
    assert list(read_example(path, (0, len(data)))["x"]) == values


@pytest.mark.parametrize("text", ["{", "{}", '{"featuresDict": {"features": {"image": {}}}}'])
def test_other_datasets_are_no_rlds(folder, text):
    (folder / "features.json").write_text(text)
    with pytest.raises(PositronicError, match="no description of an RLDS dataset"):
        read_features(folder)


def test_tensors_that_are_compressed_or_of_any_size_are_not_known(folder):
    path = folder / "features.json"
    path.write_text(path.read_text().replace('"none"', '"zlib"').replace('"48"', '"-1"').replace('"uint8"', '"uint16"'))
    step, _ = read_features(folder)
    assert {name for name, leaf in step.items() if leaf.kind == OTHER} == step.keys() - {"language_instruction"}


def test_tensors_in_bytes_are_one_element_a_step():
    leaf = Leaf(TENSOR, (2,), "float64", "bytes")
    values = [np.array([1.0, 2.0]).tobytes(), np.array([3.0, 4.0]).tobytes()]
    assert leaf.count(values) == 2
    assert leaf.numbers(values).tolist() == [[1, 2], [3, 4]]
