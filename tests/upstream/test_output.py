"""Lines are cut right wherever the stream was cut, and a log does not fill the disk."""

import pytest

from positronic.upstream.output import MAX_LINE, Lines, Log


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_lines_do_not_depend_on_how_the_stream_was_cut(size):
    """A line break of two bytes, and a letter of two, may be cut in the middle."""
    stream = "one\r\ntwo\rthr\xe9e\r\r\n\x1b[31mfour\x1b[0m  \n\nfive".encode()
    lines = Lines()
    heard = [line for at in range(0, len(stream), size) for line in lines.feed(stream[at : at + size])]
    assert [*heard, *lines.close()] == ["one", "two", "thr\xe9e", "four", "five"]


def test_a_line_without_end_comes_in_pieces():
    """Memory is bounded."""
    lines = Lines()
    assert [len(line) for line in lines.feed(b"x" * (2 * MAX_LINE + 1))] == [MAX_LINE, MAX_LINE]
    assert list(lines.close()) == ["x"]


def test_a_log_that_is_too_large_begins_anew_beside_the_one_before(tmp_path):
    """At most twice its size is kept."""
    log = Log(tmp_path / "child.log", max_bytes=10)
    for number in range(5):
        log.write(f"line {number}")
    log.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["child.log", "child.log.1"]
    assert (tmp_path / "child.log.1").read_text() == "line 2\nline 3\n"
    assert log.path.read_text() == "line 4\n"


def test_a_log_is_appended_to(tmp_path):
    """A resumed run adds to its log."""
    for text in ("before", "after"):
        log = Log(tmp_path / "run" / "child.log")
        log.write(text)
        log.close()
    assert log.path.read_text() == "before\nafter\n"
