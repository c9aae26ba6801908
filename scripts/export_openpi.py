"""A checkpoint of vendor=openpi for LeRobot's own code, adapters merged into the weights in float32.

python scripts/export_openpi.py data/checkpoints/openpi/openpi_ee/checkpoints/030000 exported
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from positronic.errors import PositronicError


def main() -> int:
    """Export what was typed. 1 if it could not be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="<experiment>/checkpoints/<id>")
    parser.add_argument("folder", type=Path, help="a new one")
    typed = parser.parse_args()
    if typed.folder.exists():
        print(f"{typed.folder} is there already. Choose another folder.", file=sys.stderr)
        return 1
    from positronic.vendors.openpi.export import export

    try:
        export(typed.checkpoint, typed.folder)
    except PositronicError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Exported to {typed.folder}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
