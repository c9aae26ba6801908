"""``python scripts/serve_policy.py --port P policy:checkpoint --policy.config C --policy.dir D``."""

import dataclasses
import enum
import logging
import socket

import tyro
from openpi.policies import policy as _policy
from openpi.policies import policy_config as _policy_config
from openpi.serving import websocket_policy_server
from openpi.training import config as _config


class EnvMode(enum.Enum):
    ALOHA = "aloha"
    ALOHA_SIM = "aloha_sim"
    DROID = "droid"
    LIBERO = "libero"


@dataclasses.dataclass
class Checkpoint:
    config: str
    dir: str


@dataclasses.dataclass
class Default:
    """The environment's own checkpoint."""


@dataclasses.dataclass
class Args:
    env: EnvMode = EnvMode.ALOHA_SIM
    default_prompt: str | None = None
    port: int = 8000
    record: bool = False
    policy: Checkpoint | Default = dataclasses.field(default_factory=Default)


BASE = "gs://openpi-assets/checkpoints/"
DEFAULT_CHECKPOINT = {
    EnvMode.DROID: Checkpoint(config="pi05_droid", dir=f"{BASE}pi05_droid"),
    EnvMode.LIBERO: Checkpoint(config="pi05_libero", dir=f"{BASE}pi05_libero"),
}


def create_policy(args: Args) -> _policy.Policy:
    found = args.policy if isinstance(args.policy, Checkpoint) else DEFAULT_CHECKPOINT[args.env]
    config = _config.get_config(found.config)
    return _policy_config.create_trained_policy(config, found.dir, default_prompt=args.default_prompt)


def main(args: Args) -> None:
    """Upstream listens on every address; this one on the loopback alone, whatever its log says."""
    policy = create_policy(args)
    hostname = socket.gethostname()
    logging.info("Creating server (host: %s, ip: %s)", hostname, socket.gethostbyname(hostname))
    server = websocket_policy_server.WebsocketPolicyServer(
        policy=policy, host="127.0.0.1", port=args.port, metadata=policy.metadata
    )
    server.serve_forever()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, force=True)
    main(tyro.cli(Args))
