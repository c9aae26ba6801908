"""A parquet file is what was written, or it is named: no flipped byte decodes into other numbers."""

import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from positronic.raw.faults import BadEpisode
from positronic.raw.signals import VectorSignal
from positronic.raw.vector_writer import VectorWriter

NS = 10**9
ROWS = 40


@pytest.fixture
def values():
    return np.sin(np.arange(ROWS)[:, None] / 10 + np.arange(7))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.parquet"


def write_as_published(path, values, **options):
    """Without check sums of pages; neither compressed nor encoded, so that every number can be found in the file."""
    table = pa.table({"timestamp": np.arange(len(values)) * NS // 30, "value": list(values)})
    pq.write_table(table, path, compression="none", use_dictionary=False, **options)


def flip(path, offset, bits=0x40):
    content = bytearray(path.read_bytes())
    content[offset] ^= bits
    path.write_bytes(content)


def test_a_byte_flipped_anywhere_in_our_files(path, values):
    """The page's check sum finds it, or it changes nothing that is read."""
    writer = VectorWriter("x", path)
    for row, value in enumerate(values):
        writer.append(value, row * NS // 30)
    writer.close()
    content = path.read_bytes()
    times = VectorSignal("x", path).times_ns
    named = 0
    for offset in range(0, len(content), 7):
        path.write_bytes(content)
        flip(path, offset)
        signal = VectorSignal("x", path)
        try:
            found = signal.times_ns, signal.values
        except BadEpisode:
            named += 1
        else:
            assert np.array_equal(found[0], times)
            assert np.array_equal(found[1], values)
    assert named > len(content) / 7 / 2


def test_a_number_beyond_what_the_footer_notes(path, values):
    """Published recordings have no check sums; the file's own extremes tell, which both are in the message."""
    write_as_published(path, values)
    exponent = path.read_bytes().find(struct.pack("<d", values[7, 2])) + 7
    flip(path, exponent)
    with pytest.raises(BadEpisode, match=r"x\.parquet is damaged: .* holds numbers from .* was written with"):
        _ = VectorSignal("x", path).values


def test_extremes_of_several_row_groups(path, values):
    """They are those of the whole file; a file without any is read as it is."""
    write_as_published(path, values, row_group_size=7)
    assert np.array_equal(VectorSignal("x", path).values, values)
    write_as_published(path, values, write_statistics=False)
    assert np.array_equal(VectorSignal("x", path).values, values)


def test_values_without_an_order(path):
    """NaN, text and truth values have no extremes to hold them against; NaN is refused when the signal is checked."""
    for column in (np.array([0.0, np.nan]), np.array(["a", "b"]), np.array([True, False])):
        pq.write_table(pa.table({"timestamp": [0, NS], "value": column}), path)
        assert len(VectorSignal("x", path).values) == 2
