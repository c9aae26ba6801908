"""What a client is not told."""

import pytest

from positronic.serving import discretion
from positronic.serving.discretion import told


@pytest.mark.parametrize(
    ("reason", "heard"),
    {
        "OSError: [Errno 2] No such file: '/root/my runs/x/model.safetensors'": (
            "OSError: [Errno 2] No such file: '…/model.safetensors'"
        ),
        "/root/run/checkpoints/000030 is damaged.": "…/000030 is damaged.",
        "Look into /var/log/x.log.": "Look into …/x.log.",
        "s3://bucket/run/checkpoints/000030: no such file": "…/000030: no such file",
        "HOME=~/robot, TMP=/tmp/": "HOME=…/robot, TMP=…/tmp",
        r"C:\Users\me\x.pt is no checkpoint": "…/x.pt is no checkpoint",
        'It fails\nTraceback (most recent call last):\n  File "/root/a.py", line 3, in f\nValueError: bad': (
            "It fails\nValueError: bad"
        ),
    }.items(),
)
def test_paths_and_tracebacks_are_left_out(reason, heard):
    """A file's own name stays, so that the sentence still says something."""
    assert told(reason) == heard


@pytest.mark.parametrize(
    "reason", ["0.3 m/s and 1/2", "'observation/state' is missing", "Type <experiment>/<id>.", "a / b", "x:y, 16:9"]
)
def test_what_is_no_path_stays(reason):
    """A slash alone is none."""
    assert told(reason) == reason


@pytest.mark.parametrize("place", ["data/private/customer/run", "/srv/secret data/exp A"])
def test_the_served_folder_is_hidden_however_it_was_typed(monkeypatch, place):
    """Relative, and with spaces; ids of checkpoints are told."""
    monkeypatch.setattr(discretion, "_places", {})
    discretion.hide(place)
    said = discretion.told(f"No checkpoint 'x' in {place}/checkpoints. There are: act/000010.")
    assert "private" not in said
    assert "secret" not in said
    assert said.endswith("There are: act/000010.")
