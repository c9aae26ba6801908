"""What a terminal shows of bytes on their way."""

from positronic.storage.progress import byte_bar


def test_bytes_are_shown(capsys):
    """What, how many of how many, how fast."""
    with byte_bar("Fetching x", 3_000_000) as advance:
        advance(1_000_000)
        advance(2_000_000)
    said = " ".join(capsys.readouterr().err.split())
    assert "Fetching x" in said
    assert "3.0/3.0 MB" in said
    assert "B/s" in said


def test_a_few_bytes_are_not_worth_a_bar(capsys):
    """Nor is what nobody asked to see, or what turned out to be there already."""
    with byte_bar("Fetching x", 1000) as advance:
        advance(1000)
    with byte_bar("Fetching x", 3_000_000, shown=False) as advance:
        advance(3_000_000)
    with byte_bar("Fetching x", 3_000_000):
        pass
    assert capsys.readouterr().err == ""
