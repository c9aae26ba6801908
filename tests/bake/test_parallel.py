"""Episodes over processes: in order, and never many at once."""

from positronic.bake.config import VideoConfig
from positronic.bake.episode import BakedEpisode, EpisodeBaker
from positronic.bake.parallel import WINDOW, FrameCounter, Job, bake_in_order


def test_few_episodes_are_held_however_many_there_are(record, recipe, tmp_path):
    """A job is made when there is room for it; results come in order; every timestep is counted."""
    dataset, used, counter, made = record(seconds=0.3), recipe(), FrameCounter(), []
    baker = EpisodeBaker(used.codec, used.modality, VideoConfig(), None, None)
    (tmp_path / "pieces").mkdir()

    def make_job(number):
        made.append(number)
        return Job(number, dataset[0], check_only=False)

    lengths = []
    for done, result in enumerate(bake_in_order(baker, tmp_path / "pieces", make_job, 20, 2, counter)):
        assert isinstance(result, BakedEpisode)
        assert all(piece.is_file() for piece in result.pieces.values())
        assert len(made) - done <= 2 * WINDOW
        lengths.append(result.length)
    assert made == list(range(20))
    assert counter.value == sum(lengths)
