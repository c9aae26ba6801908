"""No more of JAX than that it is installed and can be configured."""

__version__ = "0.5.3"


class config:  # noqa: N801  upstream's name
    @staticmethod
    def update(name: str, value: object) -> None:
        """Nothing here compiles."""


def device_count() -> int:
    return 1
