import shutil

import pytest

from positronic import keys
from positronic.raw.episode import BadEpisode, Episode


def test_equal_content_has_an_equal_fingerprint(record):
    """Two recordings of the same thing, at other times, under other ids, camera included."""
    first, second = record(frames=5, statics={keys.TASK: "stack"}), record(frames=5, statics={keys.TASK: "stack"})
    assert first.uid != second.uid
    assert first.fingerprint() == second.fingerprint()
    assert len(first.fingerprint()) == 64


def test_the_place_does_not_matter(record, tmp_path):
    """A copy elsewhere is the same episode."""
    episode = record(frames=2)
    moved = shutil.copytree(episode.path, tmp_path / "elsewhere" / "000000000042")
    assert Episode(moved).fingerprint() == episode.fingerprint()


def test_a_static_matters(record):
    """Another task is another episode."""
    assert record(statics={keys.TASK: "a"}).fingerprint() != record(statics={keys.TASK: "b"}).fingerprint()


def test_bytes_in_statics(record):
    """Statics of every type can be fingerprinted."""
    assert record(statics={"scene": b"a"}).fingerprint() != record(statics={"scene": b"b"}).fingerprint()


@pytest.mark.parametrize("end", [".parquet", ".mp4", ".frames.parquet"])
def test_every_signal_file_matters(record, end):
    """One changed byte in any of them is another episode."""
    episode = record(frames=2)
    before = episode.fingerprint()
    name = keys.GRIP if end == ".parquet" else keys.IMAGE_WRIST
    with (episode.path / f"{name}{end}").open("ab") as file:
        file.write(b"\0")
    assert Episode(episode.path).fingerprint() != before


def test_meta_data_and_other_files_do_not_matter(record):
    """Only signals and statics are content."""
    episode = record()
    before = episode.fingerprint()
    (episode.path / "meta.json").write_text("{}")
    (episode.path / "note.txt").write_text("x")
    assert Episode(episode.path).fingerprint() == before


def test_the_fingerprint_is_pinned(published):
    """It is stored in baked datasets, so a change of its definition must be seen."""
    episode = Episode(published / "000000000000" / "000000000000")
    assert episode.fingerprint() == "06148c76850a99879ff28e7f29c3c4bd52451b00add01498e84c4dc25de97b6c"


def test_half_a_camera_has_no_fingerprint(record):
    """A missing file is an error, not another fingerprint."""
    episode = record(frames=2)
    (episode.path / "image.wrist.mp4").unlink()
    with pytest.raises(BadEpisode, match=r"image.wrist.mp4 is missing"):
        Episode(episode.path).fingerprint()
