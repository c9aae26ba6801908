"""``python gr00t/experiment/launch_finetune.py --base-model-path ... --dataset-path ...``: fine-tuning."""

import importlib
import sys
from pathlib import Path

import tyro

from gr00t import standin
from gr00t.configs.finetune_config import FinetuneConfig, FinetuneConfigN1d6
from gr00t.data.embodiment_tags import EmbodimentTag


def load_modality_config(modality_config_path: str) -> None:
    """Import the file by its stem, as a module of its folder, which comes last on the path."""
    path = Path(modality_config_path)
    if not path.exists() or path.suffix != ".py":
        raise FileNotFoundError(f"Modality config path does not exist: {modality_config_path}")
    sys.path.append(str(path.parent))
    importlib.import_module(path.stem)
    print(f"Loaded modality config: {path}")


if __name__ == "__main__":
    config = tyro.cli(FinetuneConfigN1d6 if standin.version() == "n1.6" else FinetuneConfig, description=__doc__)
    tag = config.embodiment_tag
    tag = tag if isinstance(tag, EmbodimentTag) else EmbodimentTag.resolve(tag)
    if config.modality_config_path is not None:
        load_modality_config(config.modality_config_path)

    from gr00t.experiment.experiment import run

    run(config, tag)
