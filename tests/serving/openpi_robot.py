"""A robot of openpi's: its published client, and what it hears, as JSON. ``python openpi_robot.py <port> [address]``.

Runs in an environment of its own, without Positronic.
"""

import json
import sys

import numpy as np
from openpi_client.action_chunk_broker import ActionChunkBroker
from openpi_client.websocket_client_policy import WebsocketClientPolicy


def observation(**changes):
    picture = np.full((24, 32, 3), 100, np.uint8)
    state = np.arange(8) / 10
    sent = {"observation/image": picture, "observation/wrist_image": picture, "observation/state": state}
    return {**sent, "prompt": "stack", **changes}


def told(function, *arguments, **options):
    """An exception's type and text."""
    try:
        return function(*arguments, **options)
    except Exception as error:
        return [type(error).__name__, str(error)]


def plain(answer):
    actions = answer["actions"]
    return {
        "actions": actions.tolist(),
        "dtype": str(actions.dtype),
        "server_timing": answer["server_timing"],
        "policy_timing": answer["policy_timing"],
    }


def main(port):
    """Every way to address the server, several answers, chunks step by step, and every fault."""
    heard = {}
    addresses = {"host and port": ["127.0.0.1", port]}
    addresses |= {name: [f"ws://127.0.0.1:{port}{name}"] for name in ("/openpi", "/openpi/10")}
    for name, address in addresses.items():
        policy = WebsocketClientPolicy(*address, api_key="secret")
        answers = [plain(policy.infer(observation())) for _ in range(2)]
        heard[name] = {"checkpoint": policy.get_server_metadata()["checkpoint_id"], "answers": answers}
    broker = ActionChunkBroker(policy, action_horizon=4)
    heard["steps"] = [broker.infer(observation())["actions"].tolist() for _ in range(5)]
    heard["bad state"] = told(policy.infer, observation(**{"observation/state": np.zeros(3)}))
    heard["afterwards"] = told(policy.infer, observation())
    heard["unknown"] = told(WebsocketClientPolicy, f"ws://127.0.0.1:{port}/openpi/7", api_key="secret")
    heard["no key"] = told(WebsocketClientPolicy, "127.0.0.1", port)
    print(json.dumps(heard))


if __name__ == "__main__":
    main(int(sys.argv[1]))
