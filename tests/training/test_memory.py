"""A batch that does not fit into memory is refused before the first step."""

import pytest
import torch

import positronic
from positronic.bake.frame_source import in_memory
from positronic.errors import PositronicError
from positronic.stages.train import run
from positronic.training import memory
from positronic.training.batches import BatchMaker, SampleOrder
from positronic.training.checkpoints import list_checkpoints
from positronic.training.learner import Learner
from positronic.training.settings import TrainSettings
from positronic.training.trainable import PolicySpec
from positronic.vendors import registry


@pytest.fixture
def little(monkeypatch):
    """A machine with 1 GB left."""
    monkeypatch.setattr(memory, "available_bytes", lambda: 10**9)


def test_a_batch_that_does_not_fit_is_refused_with_one_that_does(tiny_act, little, tmp_path):
    """Nothing but the number has to be typed again; the name is not taken."""
    typed = tiny_act("large", "batch_size=100000", "num_train_steps=1", "save_freq=1")
    with pytest.raises(PositronicError, match=r"batch_size=100000: a step needs about .* GB .*1 GB are free") as said:
        run(positronic.compose(typed))
    fits = int(str(said.value).split("batch_size=")[-1].split()[0])
    assert 100 < fits < 100000
    run(positronic.compose(tiny_act("large", "batch_size=8", "num_train_steps=1", "save_freq=1")))


def test_measuring_changes_nothing(tiny_act, dataset, little, monkeypatch):
    """Random state, weights and buffers: a run of the same seed has the same losses."""
    config = positronic.compose(tiny_act("x"))
    spec = PolicySpec(dataset.recipe, dataset.stats, config.vendor.policy, "cpu")
    trainable = registry.backend_of("lerobot").make_trainable(spec)
    maker = BatchMaker(dataset, in_memory(dataset), SampleOrder(19, 3, 0), trainable.action_offsets, False)
    before, state = torch.get_rng_state(), {k: v.clone() for k, v in trainable.module.state_dict().items()}
    monkeypatch.setattr(memory, "SELDOM", 10**9)
    memory.require_room(trainable, maker.first_of, TrainSettings(1, 1, 1, batch_size=8))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, state[name]) for name, value in trainable.module.state_dict().items())


def test_shared_memory_that_is_too_small_is_told_before_a_process_starts(tiny_act, monkeypatch, tmp_path):
    """Whether what the processes keep there fits; a thread needs none, and neither do frames that are in memory."""
    monkeypatch.setattr(memory, "free_shared_bytes", lambda: 65_536)
    few = ["num_train_steps=1", "save_freq=1"]
    said = (
        r"num_workers=2: 5 batches of batch_size=3 need 0\.\d+ MB .*0\.0655 MB are free.*num_workers=0.*--shm-size=1m"
    )
    with pytest.raises(PositronicError, match=said):
        run(positronic.compose(tiny_act("run", "num_workers=2", "cache_gb=0", "frame_cache=none", *few)))
    run(positronic.compose(tiny_act("thread", "num_workers=0", "cache_gb=0", "frame_cache=none", *few)))
    run(positronic.compose(tiny_act("cached", "num_workers=2", *few)))


def test_other_errors_are_not_about_memory():
    """Torch says it in a text when the memory is a CPU's."""
    assert memory.refused_by_memory(RuntimeError("shape mismatch"), 8) is None
    assert "smaller batch_size" in str(memory.refused_by_memory(RuntimeError("can't allocate memory: you tried"), 8))


def test_what_to_lower_follows_from_which_memory_is_full():
    """A GPU's can be spared by a precision of half the bytes, a machine's by fewer decoded frames."""
    of_gpu = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    assert "on the GPU for a step of batch_size=8. Type a smaller batch_size, or precision=bf16." in str(
        memory.refused_by_memory(of_gpu, 8, "fp32")
    )
    assert str(memory.refused_by_memory(of_gpu, 8, "bf16")).endswith("Type a smaller batch_size.")
    assert "smaller batch_size, or a smaller cache_gb" in str(memory.refused_by_memory(MemoryError(), 8))
    of_library = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)")
    assert "for the policy itself" in str(memory.refused_by_memory(of_library))


def test_memory_that_ends_in_the_middle_keeps_the_last_checkpoint(tiny_act, tmp_path, monkeypatch):
    """What torch really says when it cannot allocate; the run goes on from there with a command that is printed."""
    step = Learner.step

    def greedy(learner, batch, number, part):
        if number == 3:
            torch.empty(2**60, dtype=torch.uint8)
        step(learner, batch, number, part)

    with monkeypatch.context() as patched:
        patched.setattr(Learner, "step", greedy)
        said = r"(?s)no memory left for a step of batch_size=3\..*last checkpoint is 000002\. To continue"
        with pytest.raises(PositronicError, match=said):
            run(positronic.compose(tiny_act("run", "num_train_steps=4", "save_freq=2")))
    run(positronic.compose(tiny_act("run", "num_train_steps=4", "save_freq=2", "resume=true")))
    assert [checkpoint.step for checkpoint in list_checkpoints(tmp_path / "run")] == [2, 4]


def test_a_policy_that_does_not_fit_is_refused(tiny_act, tmp_path):
    """Before anything is written; a smaller batch would not help."""
    with pytest.raises(PositronicError, match=r"no memory left for the policy itself\. Take a smaller one"):
        run(positronic.compose(tiny_act("run", "vendor.policy.dim_feedforward=4000000000000000")))
    assert not (tmp_path / "run").exists()
