"""Run by the interpreter of another environment: convert a recording with the release that is installed there.

python published.py <raw dataset> <output folder>

What it imports is not timed. The last line on stdout is JSON with the seconds.
"""

from __future__ import annotations

import importlib
import json
import sys
import time

CONVERTER = "positronic.vendors.lerobot_0_3_3.to_lerobot"
CODECS = "positronic.vendors.lerobot_0_3_3.codecs"
DATASETS = "positronic.cfg.ds"


def main() -> None:
    """Say on the converter's own command line what a person would."""
    raw, output = sys.argv[1:]
    converter = importlib.import_module(CONVERTER)
    for module in (CODECS, DATASETS):
        importlib.import_module(module)
    dataset = [f"--dataset.dataset=@{DATASETS}.local", f"--dataset.dataset.path={raw}", f"--dataset.codec=@{CODECS}.ee"]
    sys.argv = [CONVERTER, "convert", *dataset, f"--output_dir={output}"]
    started = time.perf_counter()
    converter._internal_main()
    print(json.dumps({"seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main()
