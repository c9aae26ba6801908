"""The benchmark runs and says what it promises; how fast anything is, is not looked at."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TINY = ["--episodes=2", "--seconds=0.4", "--rounds=1", "--sources=64x48", "--workers=1", "--no-lerobot"]
HEADINGS = [
    *("decode", "letterbox", "histogram", "to the encoder", "encode", "vectors", "statistics", "parquet"),
    *("everything else", "all"),
]


@pytest.fixture(scope="module")
def printed() -> list[str]:
    """Lines of a run with nearly everything; this interpreter has no published release."""
    options = ["--formats=v3.0,v2.1", "--split", "--manifest=3", f"--published={sys.executable}"]
    command = [sys.executable, "scripts/bench_convert.py", *TINY, *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_last_line_is_json_of_the_main_case(printed):
    assert json.loads(printed[-1]).keys() == {"of_bound"}


def test_each_format_has_its_row_with_a_speed_and_a_quality(printed):
    rows = [line.split("│")[1:-1] for line in printed if line.startswith("│ positronic")]
    assert [row[1].strip() for row in rows] == ["v3.0", "v2.1"]
    for row in rows:
        speed, quality = float(row[3]), float(row[-1])
        assert speed > 0
        assert 25 < quality < 60


def test_the_parts_of_the_time_add_up(printed):
    first = next(number for number, line in enumerate(printed) if line.startswith("│ decode"))
    rows = [line.split("│")[1:-1] for line in printed[first:] if line.startswith("│")][: len(HEADINGS)]
    assert all(row[0].strip().startswith(each) for row, each in zip(rows, HEADINGS, strict=True))
    shares = [float(row[2]) for row in rows]
    assert all(share > 0 for share in shares)
    assert sum(shares[:-1]) == pytest.approx(100, abs=1)


def test_servers_are_measured_side_by_side():
    """Both answer every robot; only the ratios of what was measured are told."""
    options = ["--models=zero", "--robots", "1", "2", "--servers", "ours", "plain", "--seconds=0.2"]
    command = [sys.executable, "scripts/bench_serving.py", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told.keys() == {"n2_dropped", "n1_zero_vs_plain"}
    assert told["n2_dropped"] == 0
    assert told["n1_zero_vs_plain"] > 0


def test_memory_is_that_of_a_process_and_of_those_below_it(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    from bench import memory

    sleeper = [sys.executable, "-c", "input()"]
    with subprocess.Popen(["sh", "-c", '"$@"; true', "sh", *sleeper], stdin=subprocess.PIPE) as shell:
        deadline = time.monotonic() + 10
        while len(memory.family(shell.pid)) < 2 and time.monotonic() < deadline:
            pass
        found = memory.family(shell.pid)
        assert found[0] == shell.pid
        assert len(found) == 2
        assert all(memory.resident(pid) > 0 for pid in found)
        shell.communicate(b"\n")
    assert memory.resident(found[1]) == 0


def test_a_made_up_dataset_is_opened_whole(printed):
    text = "\n".join(printed)
    assert "Opening a dataset of 3 episodes" in text
    assert "30 rows of vectors" in text


def test_a_release_that_does_not_run_is_told_of_and_left_out(printed):
    assert any("ModuleNotFoundError" in line for line in printed)
    assert not any(line.startswith("│ published") for line in printed)


def test_the_benchmark_of_the_import_ends_with_its_figures():
    """Each case against the plain loop."""
    command = [sys.executable, "scripts/bench_import.py", "--episodes=2", "--seconds=0.4", "--rounds=1", "--size=64x48"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    for case in ("hdf5", "mcap", "copied_video"):
        assert figures[f"{case}_mb_s"] > 0
        assert figures[f"{case}_vs_loop"] > 0


def test_the_recorders_figures_are_beside_those_of_encoding_in_the_loop():
    """One row each; how large the figures are is not looked at."""
    command = [sys.executable, "scripts/bench_record.py", "--seconds=0.5", "--cameras=1", "--no-lerobot"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    rows = ["positronic", "in_place", "copies", "naive"]
    assert [line.split("│")[1].strip() for line in lines if line.startswith("│")] == rows
    assert list(json.loads(lines[-1])) == [f"{row}_p99_ms" for row in rows]


def test_every_source_of_frames_loads_the_same_pictures_at_its_own_speed():
    """The benchmark itself compares them bit for bit; how large the figures are is not looked at."""
    options = ["--episodes=2", "--length=1.4", "--source=64x48", "--seconds=0.2", "--rounds=1", "--batch-size=2"]
    command = [sys.executable, "scripts/bench_loader.py", *options, "--workers=0", "--no-lerobot"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    sources = ("memory", "mapped", "mapped_cold", "decoded", "s3_fetched", "s3_streamed")
    assert all(figures[f"{name}_samples_s"] > 0 for name in sources)
    ratios = {"mapped_vs_memory", "mapped_vs_decoded", "s3_first_batch_fetched_vs_streamed"}
    assert figures.keys() - {f"{name}_samples_s" for name in sources} == ratios


def test_a_step_of_the_loop_is_compared_with_the_bare_one():
    """Each size by its name; how large the figures are is not looked at."""
    options = ["--sizes=tiny", "--episodes=2", "--length=1", "--steps=8", "--no-lerobot"]
    command = [sys.executable, "scripts/bench_train.py", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures.keys() == {"tiny_overhead_percent", "tiny_cpu_overhead_percent"}
    (row,) = (line.split("│")[1:-1] for line in done.stdout.splitlines() if line.startswith("│ tiny"))
    assert all(float(milliseconds) > 0 for milliseconds in (row[1], row[2], row[5]))


def test_sharding_is_measured_step_by_step():
    """Seconds and memory of each step for each number of episodes."""
    command = [sys.executable, "scripts/bench_sharding.py", "--episodes", "12", "--shards", "3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told.keys() == {"12", "growth"}
    assert all(step["sec"] >= 0 and step["cpu_sec"] >= 0 and step["mb"] > 0 for step in told["12"].values())
