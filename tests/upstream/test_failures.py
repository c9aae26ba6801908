"""A failed child is explained in a sentence: what it said, what that means, what to type."""

import pytest

from positronic.upstream.child import Ended, run
from positronic.upstream.failures import Symptom, failure, find_symptom, not_ready, telling


@pytest.fixture
def ended(tmp_path):
    return lambda code, *lines: Ended(code, lines, tmp_path / "child.log")


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", "batch_size="),
        ("jaxlib.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate", "batch_size="),
        ("huggingface_hub.errors.GatedRepoError: 401 Client Error.", "hf auth login"),
        ("requests.exceptions.HTTPError: 403 Client Error: Forbidden for url", "hf auth login"),
        ("OSError: [Errno 98] error while attempting to bind: address already in use", "ss -ltnp"),
        ("zmq.error.ZMQError: Address already in use (addr='tcp://*:5555')", "ss -ltnp"),
        ("OSError: [Errno 28] No space left on device", "output_dir="),
        ("ModuleNotFoundError: No module named 'flash_attn'", "vendor.python="),
        ("ValueError: Normalization stats not found. Make sure to run", "stage=stats"),
        ("RuntimeError: Could not load libtorchcodec. Likely causes:", "LD_LIBRARY_PATH"),
        ("OSError: We couldn't connect to 'https://huggingface.co' to load the files", "hf download"),
        ("huggingface_hub.errors.LocalEntryNotFoundError: Cannot find the requested files", "hf download"),
        ("Unrecognized options: --tune-vlln", "Check out the commit"),
        ("FileNotFoundError: /cache/big_vision/paligemma_tokenizer.model", "Put it into the cache"),
    ],
)
def test_a_failure_says_what_it_means_and_what_to_do(ended, line, remedy):
    """Exit code, its last line, remedy and log."""
    told = str(failure(ended(1, "Traceback (most recent call last):", '  File "a.py"', line), "Training"))
    assert told.startswith(f"Training ended with exit code 1.\n  {line}\n")
    assert remedy in told.splitlines()[2]
    assert told.endswith("child.log")


def test_a_killed_child_had_too_little_memory(ended):
    """The system says nothing to it."""
    told = str(failure(ended(-9, "Step 3"), "Training"))
    assert "was ended by signal 9 (SIGKILL), exit code -9" in told
    assert "num_workers=<fewer>" in told


def test_a_vendors_symptoms_come_first(ended):
    """They know more than what all have in common."""
    own = Symptom("flash_attn", "It is optional.", "Install it.")
    assert find_symptom(["ModuleNotFoundError: No module named 'flash_attn'"], [own]) is own


def test_the_last_exception_counts():
    """Not the frames, not what a library warned of, not what failed before and was handled."""
    first = ["Traceback (most recent call last):", "  File", "OSError: [Errno 28] No space left on device"]
    second = ["[rank0]: Traceback (most recent call last):", "[rank0]:   File", "[rank0]: ValueError: bad"]
    assert telling([*first, *second]) == ["ValueError: bad"]
    assert find_symptom([*first, *second, "ImportError"]).remedy.startswith("Install")


def test_a_refused_command_line_is_told_without_its_frame():
    """As tyro prints it."""
    lines = [
        "\u256d\u2500 Parsing error \u2500\u256e",
        "\u2502 Unrecognized options: --nope \u2502",
        "\u2570\u2500\u256f",
    ]
    assert telling(["loading", *lines]) == ["Parsing error", "Unrecognized options: --nope"]


def test_progress_bars_are_no_message():
    """The lines before them are."""
    assert telling(["cannot go on", " 10%|# | 1/10 [00:01<00:09, 1.0it/s]"]) == ["cannot go on"]


def test_a_real_traceback_is_told(command, tmp_path):
    """Of a child that fails."""
    ended = run(command("import nowhere_to_be_found"), tmp_path / "child.log")
    told = str(failure(ended, "The toy"))
    assert told.startswith("The toy ended with exit code 1.\n  ModuleNotFoundError: No module named 'nowhere_to")


def test_a_server_that_needs_longer_is_told_the_parameter(ended):
    """Its last line too."""
    told = str(not_ready(ended(-15, "Loading model..."), "The server", 300, "vendor.ready_timeout_sec"))
    assert told.startswith("The server was not ready within 300 s.\n  Loading model...\n")
    assert "vendor.ready_timeout_sec=<more seconds>" in told
