"""Write docs/codecs.md and the table of docs/embodiments.md from the configs. ``--check`` writes nothing.

python scripts/make_docs.py [--check]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import positronic
from positronic.codecs.build import Recipe, build
from positronic.codecs.modality import Column
from positronic.embodiments.config import FROM_DATA
from positronic.embodiments.embodiment import Embodiment, build_embodiment
from positronic.stages.base import Parts
from positronic.vendors.gr00t.modality import modality_name

REPOSITORY = Path(__file__).resolve().parent.parent
MODALITIES = REPOSITORY / "conf" / "modality"
EMBODIMENTS = REPOSITORY / "conf" / "embodiment"

CODECS_HEAD = """# Codecs

A codec says which raw signals a policy sees, in what order, unit and rotation, and how its outputs become robot
commands. `conf/codec/<codec>.yaml` is vendor-neutral; `conf/modality/<vendor>/<codec>.yaml` is what a vendor
makes of it. A pair is valid if its file exists. `make docs` writes the tables below from these files.

These conventions hold everywhere:

- Units are metres, radians and seconds.
- A pose is xyz and a rotation in the robot's base frame. `quat_wxyz` is scalar first; `rot6d_rows` holds the first two
  rows of the rotation matrix.
- The gripper is 0 = open, 1 = closed.
- Images are uint8 RGB, letterboxed with Pillow's BILINEAR.
- Labels are `commanded` (the command current at t) or `measured` (the state at t, with the gripper binarised at > 0.5
  in the label only).

q and -q are the same rotation; near half a turn, two rotation vectors are the same rotation too. A bake finds the
principal direction of each pose signal over all episodes. Of the two ways to write a rotation, it takes the one that is
nearer to this direction. Manifest and checkpoint keep the direction, so a live observation gets the same numbers. If
the sign of a recording never changes, its numbers are baked as they were recorded. For this, another direction is taken
where a movement goes further than half a turn from the principal one. No direction fits a movement of more than a full
turn; without changes of sign, its signal gets none. `convert` and `stage=stats report=true` count the samples whose
sign was changed.

To see a codec's contract with all overrides, type `python run.py stage=convert vendor=... codec=... --cfg job`.
"""
SHIPPED = "## Those that are shipped\n"


def names(directory: Path) -> list[str]:
    """The choices in a config folder, without older names and shared bases."""
    stems = sorted(path.stem for path in directory.glob("*.yaml"))
    return [name for name in stems if name[0] != "_" and name != "from_checkpoint" and not name.endswith("_absolute")]


def config(vendor: str, codec: str) -> Parts:
    return positronic.compose(["stage=infer", f"vendor={vendor}", f"codec={codec}"])


def vector(column: Column) -> str:
    parts = " + ".join(f"{source.name.split('.', 1)[1]} {source.shape[0]}" for source in column.sources)
    return f"`{column.name}` {column.shape[0]}: {parts}"


def row(vendor: str, codec: str) -> str:
    parts = config(vendor, codec)
    recipe: Recipe = build(parts.codec, parts.modality)
    states = "<br>".join(vector(c) for c in recipe.modality.vector_columns if not c.is_action)
    arm = recipe.codec.action[0].convention
    moved = recipe.codec.action[0].part.command_type
    assert moved is not None
    command = moved.kind + (" (relative inside the model)" if parts.modality.relative_actions else "")
    labels = "none: inference only" if parts.codec.inference_only else parts.codec.label
    layout = arm.rotation or arm.unit
    cells = [f"`{codec}`", states, vector(recipe.modality.action_column), layout, labels, command]
    return f"| {' | '.join(cells + ([f'`{modality_name(recipe)}`'] if vendor == 'gr00t' else []))} |"


def section(vendor: str) -> Iterator[str]:
    codecs = names(MODALITIES / vendor)
    default = positronic.compose(["stage=convert", f"vendor={vendor}"])
    first, recipe = default.modality, build(default.codec, default.modality)
    images = ", ".join(f"`{column.name}` from {column.sources[0].name}" for column in recipe.modality.image_columns)
    horizon = (
        "the whole chunk"
        if first.action_horizon_sec is None
        else f"the first {first.action_horizon_sec:g} s of a chunk"
    )
    yield f"\n## {vendor}\n"
    yield f"Without `codec=`, `vendor={vendor}` takes `codec={default.codec.name}`. The images are {images}."
    yield f"The instruction is in `{first.task_key}`. There are {first.action_fps} steps/s, and {horizon} is played.\n"
    headings = ["codec", "state columns", "action column", "layout", "labels", "robot command"]
    headings += ["GR00T modality"] if vendor == "gr00t" else []
    yield f"| {' | '.join(headings)} |"
    yield "|" + "---|" * len(headings)
    yield from (row(vendor, codec) for codec in codecs)


def codecs_page() -> str:
    vendors = sorted(path.name for path in MODALITIES.iterdir() if path.is_dir())
    ordered = ["lerobot", *(vendor for vendor in vendors if vendor != "lerobot")]
    return "\n".join([CODECS_HEAD.rstrip(), *(line for vendor in ordered for line in section(vendor))]) + "\n"


def shipped() -> Iterator[str]:
    yield "| embodiment | arms | gripper of its own software | poses | cameras and roles | control |"
    yield "|---|---|---|---|---|---|"
    for path in sorted(EMBODIMENTS.glob("*.yaml")):
        if path.stem != FROM_DATA:
            typed = ["stage=convert", "codec=joints_traj", f"embodiment={path.stem}"]  # which all of them have
            yield robot_row(build_embodiment(positronic.compose(typed).embodiment))


def robot_row(robot: Embodiment) -> str:
    arms = "<br>".join(f"{arm.name + ': ' if arm.name else ''}{', '.join(arm.joints)}" for arm in robot.arms)
    grippers = dict.fromkeys(arm.gripper for arm in robot.arms)
    said = "<br>".join(f"{g.open:g} open, {g.closed:g} closed ({g.unit})" if g else "none" for g in grippers)
    frames = dict.fromkeys((arm.ee_frame, arm.base_frame) for arm in robot.arms)
    poses = "<br>".join(f"of {tool} in {base}" if tool else "none" for tool, base in frames)
    cameras = ", ".join(f"{name}: {role}" for name, role in robot.cameras.items())
    rate = f"{robot.control_fps:g} Hz" if robot.control_fps else "-"
    return f"| `{robot.name}` | {arms} | {said} | {poses} | {cameras} | {rate} |"


def embodiments_page() -> str:
    """What people wrote, and the table under its last heading."""
    written, heading, _ = (REPOSITORY / "docs" / "embodiments.md").read_text().partition(SHIPPED)
    return written + heading + "\n" + "\n".join(shipped()) + "\n"


PAGES = {"codecs.md": codecs_page, "embodiments.md": embodiments_page}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 when a page is out of date")
    check = parser.parse_args().check
    for name, page in PAGES.items():
        path, text = REPOSITORY / "docs" / name, page()
        if check and path.read_text() != text:
            sys.exit(f"{path} is out of date. Type: make docs")
        if not check:
            path.write_text(text)


if __name__ == "__main__":
    main()
