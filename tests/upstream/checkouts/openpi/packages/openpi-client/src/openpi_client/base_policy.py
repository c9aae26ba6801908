"""What a policy is to the server and to a robot."""

import abc


class BasePolicy(abc.ABC):
    @abc.abstractmethod
    def infer(self, obs: dict) -> dict:
        """A chunk of actions for an observation."""

    def reset(self) -> None:  # noqa: B027  upstream's
        """Nothing to forget."""
