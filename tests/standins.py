"""Checkouts of Isaac-GR00T and openpi that stand in for the real ones: see tests/upstream/checkouts/*/ for what they
do and how they are told to fail."""

import json
import os
import shutil
import site
import sys
from pathlib import Path

FOLDERS = Path(__file__).parent / "upstream" / "checkouts"
COMMITS = {
    "main": "626af89",
    "n1.7": "23ace64",
    "n1.6": "ead5283",
    "openpi": "15a9616",
}
"""Version -> the first digits of upstream's commit; the other 33 are zeros here."""


SOURCES = {"isaac_gr00t": (".",), "openpi": ("src", "packages/openpi-client/src", "installed")}
"""What its interpreter finds of a checkout; openpi's scripts are found from its root only."""
PACKAGES = {
    "isaac_gr00t": {"gr00t": "0.1.0"},
    "openpi": {"openpi": "0.1.0", "openpi-client": "0.1.0", "jax": "0.5.3", "flax": "0.10.2", "lerobot": "0.1.0"},
}
"""What it says is installed beside this suite's libraries."""

MODALITY = """
from gr00t.configs.data.embodiment_configs import register_modality_config
from gr00t.data.embodiment_tags import EmbodimentTag
from gr00t.data.types import ActionConfig, ActionFormat, ActionRepresentation, ActionType, ModalityConfig

absolute = ActionConfig(ActionRepresentation.ABSOLUTE, ActionType.NON_EEF, ActionFormat.DEFAULT)
pose = ActionConfig(ActionRepresentation.{rep}, ActionType.NON_EEF, ActionFormat.DEFAULT, state_key="ee_pose")
register_modality_config(
    {{
        "video": ModalityConfig(delta_indices=[0], modality_keys=["exterior_image_1", "wrist_image"]),
        "state": ModalityConfig(delta_indices=[0], modality_keys=["ee_pose", "grip"]),
        "action": ModalityConfig(
            delta_indices=list(range({steps})), modality_keys=["ee_pose", "grip"], action_configs=[pose, absolute]
        ),
        "language": ModalityConfig(delta_indices=[0], modality_keys=["annotation.language.language_instruction"]),
    }},
    EmbodimentTag.NEW_EMBODIMENT,
)
"""


def write_modality(folder: Path, rep: str = "ABSOLUTE", steps: int = 16) -> Path:
    """A modality config file for codec=ee_rot6d in ``folder``."""
    folder.mkdir(exist_ok=True)
    path = folder / f"modality_{rep.lower()}_{steps}.py"  # each its own: bytecode is told apart by whole seconds
    path.write_text(MODALITY.format(rep=rep, steps=steps))
    return path


def write_params(folder: Path) -> None:
    """Weights as of orbax, as far as openpi's stand-in looks."""
    folder.mkdir(parents=True)
    for name in ("_METADATA", "manifest.ocdbt"):
        (folder / name).write_bytes(b"weights")


class Checkout:
    """A copy of a stand-in in the new folder ``root``, with an interpreter of its own in ``.venv`` that has its
    packages and this suite's libraries, but not positronic."""

    def __init__(self, name: str, root: Path, version: str) -> None:
        self.root, self.python = root, root / ".venv" / "bin" / "python"
        shutil.copytree(FOLDERS / name, root, ignore=shutil.ignore_patterns("__pycache__"))
        self._make_environment(name)
        self.become(version)

    def become(self, version: str) -> None:
        """Another version of upstream: its commit, and for Isaac-GR00T its flags, texts and wire."""
        self.commit(COMMITS[version].ljust(40, "0"))
        if version != "openpi":
            self.tell(version=version)

    def tell(self, **switches: object) -> None:
        """Write into ``standin.json``; None takes a switch out. A running child reads it again where it can."""
        path = self.root / "standin.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        known = {name: each for name, each in (known | switches).items() if each is not None}
        part = path.with_suffix(".part")
        part.write_text(json.dumps(known, default=str))
        part.replace(path)

    def commit(self, digits: str) -> None:
        """Make ``git rev-parse HEAD`` say this; no objects are there."""
        git = self.root / ".git"
        for folder in ("objects", "refs"):
            (git / folder).mkdir(parents=True, exist_ok=True)
        (git / "HEAD").write_text(digits + "\n")

    def _make_environment(self, name: str) -> None:
        venv = self.root / ".venv"
        packages = venv / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
        packages.mkdir(parents=True)
        (venv / "bin").mkdir()
        self.python.symlink_to(os.path.realpath(sys.executable))
        (venv / "pyvenv.cfg").write_text(f"home = {Path(os.path.realpath(sys.executable)).parent}\n")
        for package, version in PACKAGES[name].items():
            told = packages / f"{package.replace('-', '_')}-{version}.dist-info" / "METADATA"
            told.parent.mkdir()
            told.write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        sources = [self.root / each for each in SOURCES[name]]
        (packages / "checkout.pth").write_text("\n".join(map(str, [*sources, *site.getsitepackages()])) + "\n")
