"""Two processes on the CPU train one policy, as one process would, and end together."""

import json
from functools import partial

import numpy as np
import pytest
import safetensors.torch
import torch
from two_processes import Noisy, settings, start

from positronic.errors import PositronicError
from positronic.training.checkpoints import find_checkpoint, list_checkpoints
from positronic.training.stopping import StoppedError

pytestmark = pytest.mark.usefixtures("one_thread")
CLOSE = 1e-5  # relative


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(folder):
    return {row["step"]: (row["loss"], row["lr"], row["grad_norm"], row.get("val_loss")) for row in rows(folder)}


def weights(folder):
    return safetensors.torch.load_file(find_checkpoint(folder).pretrained_model / "model")


def same_weights(one, another):
    ours, theirs = weights(one), weights(another)
    return all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_two_processes_train_as_one_does(dataset, tmp_path):
    """Losses, gradients and held-out losses are equal: noise and padding are those of the whole batch."""
    for name, count in (("one", 1), ("two", 2)):
        how = settings(num_processes=count, ema_decay=0.9, save_freq=6)
        start(tmp_path / name, dataset, how, held_out=dataset)
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert list(one) == list(two) == list(range(1, 13))
    np.testing.assert_allclose(np.array(list(two.values()), float), np.array(list(one.values()), float), rtol=CLOSE)
    ours, theirs = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert all(torch.allclose(ours[name], theirs[name], rtol=CLOSE, atol=CLOSE) for name in theirs)


def test_a_signal_to_one_process_stops_both_and_they_go_on_bit_for_bit(dataset, tmp_path):
    """SIGTERM to the second process alone; dropout goes on in each process where it was."""
    dropout = partial(Noisy, dropout=0.3)
    start(tmp_path / "whole", dataset, settings(), first=dropout, other=dropout)
    with pytest.raises(StoppedError, match="Stopped after step 7; its checkpoint is in"):
        start(tmp_path / "cut", dataset, settings(), first=dropout, other=partial(dropout, acts={7: "term"}))
    assert [each.step for each in list_checkpoints(tmp_path / "cut")] == [5, 7]
    start(tmp_path / "cut", dataset, settings(), resume=True, first=dropout, other=dropout)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    assert same_weights(tmp_path / "cut", tmp_path / "whole")


def test_another_number_of_processes_is_refused_or_asked_for(dataset, tmp_path):
    """With both numbers; asked for, the run goes on with the same samples and the same noise."""
    start(tmp_path / "one", dataset, settings(num_processes=1))
    with pytest.raises(StoppedError):
        start(tmp_path / "both", dataset, settings(num_processes=1), first=partial(Noisy, acts={6: "term"}))
    with pytest.raises(PositronicError, match=r"num_processes: the checkpoint has 1; this run has 2") as refused:
        start(tmp_path / "both", dataset, settings(), resume=True)
    assert "other_num_processes=true goes on all the same" in str(refused.value)
    start(tmp_path / "both", dataset, settings(), resume=True, allowed=True)
    both, one = (np.array(list(losses(tmp_path / name).values()), float)[:, :3] for name in ("both", "one"))
    np.testing.assert_allclose(both, one, rtol=CLOSE)


@pytest.mark.parametrize(
    ("act", "kind", "said"),
    [
        ("kill", PositronicError, r"Process 2 of 2 \(pid \d+\) was ended by signal 9 \(SIGKILL\)"),
        ("refuse", PositronicError, r"Process 2 of 2 \(pid \d+\) stopped: A video cannot be read\."),
        ("break", RuntimeError, r"(?s)Process 2 of 2 \(pid \d+\) failed:\nTraceback.*AttributeError"),
        ("nan", PositronicError, r"The loss became nan at step 7 .* Checkpoint 000005 is kept"),
    ],
)
def test_a_process_that_fails_ends_the_other(dataset, tmp_path, act, kind, said):
    """One sentence says which one and why, nothing is left running, and the checkpoint before is whole."""
    with pytest.raises(kind, match=said):
        start(tmp_path / "run", dataset, settings(), other=partial(Noisy, acts={7: act}))
    assert [each.step for each in list_checkpoints(tmp_path / "run")] == [5]
