"""One command line for every stage: ``python run.py stage=collect|convert|stats|train|serve|infer``; see ``--help``."""

import hydra
from omegaconf import DictConfig

from positronic import composition, config


@hydra.main(version_base=composition.VERSION_BASE, config_path="conf", config_name=composition.CONFIG_NAME)
def main(cfg: DictConfig) -> None:
    config.run_stage(cfg)


if __name__ == "__main__":
    composition.install()
    main()
