"""One command line: stage=collect|import|convert|stats|train|serve|infer|compare|pipeline|sweep; see ``--help``."""

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until a stage runs, Ctrl-C just ends us, without a traceback

import hydra
from omegaconf import DictConfig

from positronic import composition, config


@hydra.main(version_base=composition.VERSION_BASE, config_path="conf", config_name=composition.CONFIG_NAME)
def main(cfg: DictConfig) -> None:
    config.run_stage(cfg)


if __name__ == "__main__":
    composition.install()
    main()
