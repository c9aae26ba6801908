"""``python gr00t/eval/run_gr00t_server.py --model-path ... --port ...``: a checkpoint, or a recording, served."""

import importlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from gr00t import standin
from gr00t.data.embodiment_tags import EmbodimentTag


@dataclass
class ServerConfig:
    model_path: str | None = None
    embodiment_tag: str = "new_embodiment"
    device: str = "cuda"
    dataset_path: str | None = None
    modality_config_path: str | None = None
    execution_horizon: int | None = None
    host: str = "0.0.0.0"
    port: int = 5555
    strict: bool = True
    use_sim_policy_wrapper: bool = False


@dataclass
class ServerConfigN1d6:
    model_path: str | None = None
    embodiment_tag: EmbodimentTag = EmbodimentTag.NEW_EMBODIMENT
    device: str = "cuda"
    dataset_path: str | None = None
    modality_config_path: str | None = None
    execution_horizon: int | None = None
    host: str = "0.0.0.0"
    port: int = 5555
    strict: bool = True
    use_sim_policy_wrapper: bool = False


def main(config: Any) -> None:
    tag = config.embodiment_tag
    tag = tag if isinstance(tag, EmbodimentTag) else EmbodimentTag.resolve(tag)
    print("Starting GR00T inference server...")
    print(f"  Embodiment tag: {tag}\n  Model path: {config.model_path}\n  Device: {config.device}")
    print(f"  Host: {config.host}\n  Port: {config.port}", flush=True)
    is_old = standin.version() == "n1.6"  # which cannot replay: a path of None has no startswith
    if (config.model_path or is_old) and config.model_path.startswith("/") and not os.path.exists(config.model_path):
        raise FileNotFoundError(f"Model path {config.model_path} does not exist")
    standin.start()
    policy = _policy(config, tag)

    from gr00t.policy.server_client import PolicyServer

    server = PolicyServer(policy=policy, host=config.host, port=config.port)
    try:
        server.run()
    except KeyboardInterrupt:
        print("\nShutting down server...")


def _policy(config: Any, tag: EmbodimentTag) -> Any:
    from gr00t.policy.gr00t_policy import Gr00tPolicy
    from gr00t.policy.replay_policy import ReplayPolicy

    if config.model_path is not None:
        return Gr00tPolicy(tag, config.model_path, device=config.device, strict=config.strict)
    if config.dataset_path is not None:
        configs = _modality_configs(Path(config.modality_config_path), tag)
        return ReplayPolicy(config.dataset_path, configs, config.execution_horizon, config.strict)
    raise ValueError("Either model_path or dataset_path must be provided")


def _modality_configs(path: Path, tag: EmbodimentTag) -> dict[str, Any]:
    from gr00t.configs.data.embodiment_configs import MODALITY_CONFIGS
    from gr00t.data.types import ModalityConfig

    if path.suffix == ".json":
        return {kind: ModalityConfig(**each) for kind, each in json.loads(path.read_text()).items()}
    sys.path.append(str(path.parent))
    importlib.import_module(path.stem)
    return MODALITY_CONFIGS[tag.value]


if __name__ == "__main__":
    main(tyro.cli(ServerConfigN1d6 if standin.version() == "n1.6" else ServerConfig))
