"""The whole loop on this machine, one stage after the other, each by the command that a person would type.

    python scripts/demo.py [--root data/quickstart] [overrides ...]

Overrides name parts (`hardware.image_size=[96,96]`), not a stage's own parameters; each stage gets those of the parts
that it uses. What an
earlier run finished is kept; an interrupted run goes on where it stopped. Remove the root to start over.
"""

from __future__ import annotations

import argparse
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from positronic.schemas import STAGES

REPOSITORY = Path(__file__).resolve().parent.parent
PRESET = "+experiment=quickstart"


class Stages:
    """Runs stages of the quickstart preset and remembers how long each took."""

    def __init__(self, root: Path, overrides: list[str]) -> None:
        self.root = root
        self.overrides = [PRESET, f"paths.root={root}", *overrides]
        self.seconds: dict[str, float] = {}

    def command(self, stage: str, *extra: str) -> list[str]:
        named = {each.partition("=")[0] for each in extra}
        typed = [each for each in self.overrides if each.partition("=")[0] not in named and counts_for(stage, each)]
        arguments = [f"stage={stage}", *typed, *extra]
        print(f"\n\033[1m$ python run.py {' '.join(arguments)}\033[0m", flush=True)
        return [sys.executable, str(REPOSITORY / "run.py"), *arguments]

    def run(self, stage: str, *extra: str) -> None:
        """Run to the end; a stage that fails has said why, so end with its exit code."""
        start = time.monotonic()
        code = subprocess.run(self.command(stage, *extra), cwd=REPOSITORY, check=False).returncode
        self.seconds[stage] = time.monotonic() - start
        if code:
            sys.exit(code)

    @contextmanager
    def serving(self, port: int) -> Iterator[None]:
        """A server in the background; ended, and waited for, on the way out."""
        server = subprocess.Popen(self.command("serve", f"server.port={port}"), cwd=REPOSITORY)
        try:
            yield
        finally:
            server.send_signal(signal.SIGINT)
            try:
                server.wait(timeout=20)
            except subprocess.TimeoutExpired:
                server.kill()

    def summary(self) -> str:
        total = sum(self.seconds.values())
        parts = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in self.seconds.items())
        return f"{total / 60:.1f} minutes: {parts}" if parts else "everything was there already"


def counts_for(stage: str, override: str) -> bool:
    """Whether a preset or a part's value is for this stage."""
    part, schema = override.partition("=")[0].partition(".")[0], STAGES[stage]
    return override.startswith("+") or part in ("paths", *schema.uses, *schema.choices)


def collect(stages: Stages) -> None:
    """Demonstrations; an interrupted run is continued."""
    raw, done = stages.root / "raw" / "demo", stages.root / ".collected"
    if done.exists():
        print(f"Demonstrations are there: {raw}")
        return
    stages.run("collect", "resume=true")
    done.touch()


def convert(stages: Stages) -> None:
    baked = stages.root / "baked" / "demo" / "lerobot" / "ee" / "v3.0"
    if baked.exists():
        print(f"The baked dataset is there: {baked}")
    else:
        stages.run("convert")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def evaluate(stages: Stages) -> Path:
    """Serve the checkpoint and let it play the unseen seeds. Returns the rollouts' folder."""
    port, rollouts = free_port(), stages.root / "rollouts" / f"quickstart_{datetime.now():%Y%m%d_%H%M%S}"
    with stages.serving(port):
        stages.run("infer", f"policy.port={port}", f"output_dir={rollouts}")
    return rollouts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("data/quickstart"), help="where everything is written")
    options, overrides = parser.parse_known_args()
    options.root.mkdir(parents=True, exist_ok=True)
    stages = Stages(options.root.resolve(), overrides)
    try:
        collect(stages)
        convert(stages)
        stages.run("train", "resume=true")
        report = json.loads((evaluate(stages) / "report.json").read_text())
    except KeyboardInterrupt:
        sys.exit("\nInterrupted. `make demo` goes on from here.")
    print(f"\n{report['summary']}\n{stages.summary()}")


if __name__ == "__main__":
    main()
