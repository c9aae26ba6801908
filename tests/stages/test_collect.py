"""stage=collect from a typed config to a dataset."""

import pytest

from positronic import keys
from positronic.errors import PositronicError
from positronic.hardware.config import HardwareConfig
from positronic.raw.dataset import open_dataset
from positronic.rollout import demonstration
from positronic.stages.collect import Collect, run


def test_it_records_demonstrations_in_parallel_and_says_what_is_next(sim_config, tmp_path, capsys):
    """Two processes, two finished episodes with pictures of the size asked for, and a summary with a command."""
    run(Collect(hardware=sim_config, output_dir=str(tmp_path / "demo"), num_episodes=2, num_workers=2))
    dataset = open_dataset(tmp_path / "demo")
    assert [episode.id for episode in dataset] == [0, 1]
    assert [episode.statics[keys.EVAL_SEED] for episode in dataset] == [100000, 100001]
    camera = dataset[0][keys.IMAGE_EXTERIOR]
    assert [camera.height, camera.width] == sim_config.image_size
    said = capsys.readouterr().out
    assert "2 demonstrations" in said
    assert f"python run.py stage=convert dataset=local dataset.path={tmp_path}/demo" in said


@pytest.mark.parametrize(
    ("finished", "said"),
    [(0, "No episode was finished; nothing is in"), (3, "3 finished episodes are in {place}. To start again, remove")],
)
def test_ctrl_c_says_what_there_is(sim_config, tmp_path, capsys, monkeypatch, finished, said):
    """How many episodes are kept, where, and how to remove them; a failed attempt does not count."""

    def interrupted(*unused):
        yield from (demonstration.Demonstration(i, i, 9 if i < finished else 0) for i in range(finished + 1))
        raise KeyboardInterrupt

    monkeypatch.setattr(demonstration, "demonstrate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(Collect(hardware=sim_config, output_dir=str(tmp_path)))
    assert said.format(place=tmp_path) in capsys.readouterr().out


def test_an_output_that_holds_episodes_is_refused(sim_config, tmp_path):
    """An unfinished one counts; the message says what to type instead."""
    (tmp_path / "000000000000" / "000000000007").mkdir(parents=True)
    with pytest.raises(PositronicError, match=rf"holds 1 episodes already.*output_dir={tmp_path}_2.*rm -r {tmp_path}"):
        run(Collect(hardware=sim_config, output_dir=str(tmp_path)))


def test_only_the_simulator_has_an_expert(tmp_path):
    """Another hardware is refused with what to add."""
    with pytest.raises(PositronicError, match=r"found hardware=replay. Add hardware=sim"):
        run(Collect(hardware=HardwareConfig("replay"), output_dir=str(tmp_path)))
