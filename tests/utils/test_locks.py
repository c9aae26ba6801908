"""Locks between processes."""

import os

import pytest

from positronic.utils.locks import try_lock


@pytest.fixture
def opened(tmp_path):
    """Two descriptors of one folder, as two processes would have them."""
    descriptors = [os.open(tmp_path, os.O_RDONLY) for _ in range(2)]
    yield descriptors
    for descriptor in descriptors:
        os.close(descriptor)


def test_one_holder_at_a_time(opened):
    """The second is told, and does not wait."""
    assert try_lock(opened[0])
    assert not try_lock(opened[1])


def test_readers_share_and_keep_a_writer_out(opened):
    """Two shared locks go together."""
    assert try_lock(opened[0], shared=True)
    assert try_lock(opened[1], shared=True)
    assert not try_lock(opened[0])
