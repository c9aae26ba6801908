"""Scripts and encoders that are killed, stopped or interrupted: real processes, real signals."""

import multiprocessing
import os
import re
import signal

import pytest
from small_robot import CAMERAS, FRONT, SIZE, STEP_NS, append, sample

import positronic
from positronic import keys
from positronic.errors import PositronicError

FULL_DISK = """
import resource, sys
import numpy as np
import positronic

resource.setrlimit(resource.RLIMIT_FSIZE, (250_000, 250_000))
noise = np.random.default_rng(0).integers(0, 255, (20, 64, 96, 3), dtype=np.uint8)

def append(step):
    while True:  # as fast as the encoder
        try:
            return episode.append({"image.wrist": noise[step % 20]}, time_ns=step * 20_000_000)
        except positronic.PositronicError as error:
            if "frames behind" not in str(error):
                raise

with positronic.record(sys.argv[1], "so101", cameras={"wrist": (64, 96)}, task="x", frames_held=10) as recorder:
    for frames in (2, 400, 2):
        try:
            with recorder.episode() as episode:
                for step in range(frames):
                    append(step)
        except positronic.PositronicError as error:
            print("refused:", error)
"""


def encoder_of(camera):
    (process,) = [child for child in multiprocessing.active_children() if child.name == camera]
    return process.pid


def front(step):
    return {FRONT: sample(step)[FRONT], keys.GRIP: 0.5}


def until_refused(episode):
    """How many samples were taken, one before this, and why the next one was not."""
    for step in range(1, 100):
        try:
            episode.append(front(step), time_ns=step * STEP_NS)
        except PositronicError as error:
            return step, str(error)
    raise AssertionError("nothing was refused")


def kill_encoder_in_an_episode(recorder, ends):
    with recorder.episode() as episode:
        append(episode, 1)
        pid = encoder_of(FRONT)
        os.kill(pid, signal.SIGKILL)
        assert ends(pid)
        episode.append(sample(1), time_ns=STEP_NS)


def test_a_killed_script_loses_the_episode_under_way_and_nothing_else(script, root, ends, capsys):
    """What it left never looks finished; its encoders end; the next script removes it and goes on."""
    with script(root) as (process, encoders):
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert len(encoders) == 1
        assert all(map(ends, encoders))
    assert [path.name for path in sorted(root.glob("*/*"))] == ["000000000000", "000000000001"]
    (saved,) = positronic.open_raw(root)
    saved.validate(saved.signals)
    assert len(saved[keys.IMAGE_WRIST].times_ns) == 30
    with positronic.record(root, "so101", cameras={"wrist": (32, 48)}, task="x") as recorder:
        assert "1 unfinished, of a script that was killed, removed" in capsys.readouterr().out
        with recorder.episode() as episode:
            for step in range(5):
                frame = sample(step)[keys.IMAGE_WRIST]
                episode.append({keys.IMAGE_WRIST: frame}, time_ns=step * STEP_NS)
    assert len(positronic.open_raw(root)) == 2
    assert len(list(root.glob("*/*"))) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_script_drops_the_episode_under_way(script, root, ends, number):
    """And says so, also when a service manager ends it."""
    with script(root) as (process, encoders):
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
        assert all(map(ends, encoders))
    assert out.splitlines()[:2] == [
        "Episode 1 dropped: KeyboardInterrupt",
        "1 episodes, 0.6 s of robot time; 1 dropped",
    ]
    assert [path.name for path in root.glob("*/*")] == ["000000000000"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_to_the_encoders_too_is_left_to_the_script(script, root, number):
    """The frames that wait are of no use any more, but the end is orderly."""
    with script(root) as (process, encoders):
        for pid in (*encoders, process.pid):
            os.kill(pid, number)
        out, error = process.communicate(timeout=60)
    assert "Episode 1 dropped: KeyboardInterrupt" in out
    assert error.count("Traceback") == 1, error  # the script's own


def test_an_encoder_that_falls_behind_is_an_error_and_no_frame_is_left_out(root):
    """What is held is bounded; a script that goes on knows what is missing."""
    with (
        positronic.record(root, "so101", cameras={"front": SIZE}, task="x", frames_held=8) as recorder,
        recorder.episode() as episode,
    ):
        episode.append(front(0), time_ns=0)
        pid = encoder_of(FRONT)
        os.kill(pid, signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED)
        taken, said = until_refused(episode)
        os.kill(pid, signal.SIGCONT)
    (saved,) = positronic.open_raw(root)
    assert re.search(r"'image\.front': its encoder is 8 frames behind.*frames_held=", said)
    assert taken in (8, 9)  # the first frame was encoded before, or not
    assert {len(saved[name].times_ns) for name in saved.signals} == {taken}


def test_an_episode_whose_encoder_was_killed_is_dropped_and_the_next_one_is_whole(root, ends):
    """As when memory is short."""
    with positronic.record(root, "so101", cameras=CAMERAS, task="x") as recorder:
        with pytest.raises(PositronicError, match=r"'image\.front': its encoder's process ended with exit code -9"):
            kill_encoder_in_an_episode(recorder, ends)
        with recorder.episode() as episode:
            append(episode)
    (saved,) = positronic.open_raw(root)
    assert saved.id == 1
    assert {len(saved[name].times_ns) for name in saved.signals} == {20}


def test_a_full_disk_is_said_in_the_control_loop_or_at_the_episodes_end(run_script, root):
    """A limit on files stands for it; the episode before it is kept, and the next one, which has room, is whole."""
    done = run_script(root, FULL_DISK)
    assert done.returncode == 0
    assert "refused: Camera 'image.wrist': File too large" in done.stdout
    assert "Episode 1 dropped: PositronicError" in done.stdout
    assert [saved.id for saved in positronic.open_raw(root)] == [0, 2]
