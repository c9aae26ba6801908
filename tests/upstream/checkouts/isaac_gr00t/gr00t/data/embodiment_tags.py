"""Names of robots. At 626af89 and 23ace64 a name or a value is taken in any case; at ead5283 the name only."""

from enum import Enum


class EmbodimentTag(Enum):
    OXE_DROID = "oxe_droid"
    NEW_EMBODIMENT = "new_embodiment"

    @classmethod
    def resolve(cls, text: str) -> "EmbodimentTag":
        for tag in cls:
            if text.lower() in (tag.name.lower(), tag.value.lower()):
                return tag
        raise ValueError(f"Unknown embodiment tag: {text!r}. Known: {[tag.name for tag in cls]}")


EMBODIMENT_TAG_MAPPING = {EmbodimentTag.NEW_EMBODIMENT.value: 10, EmbodimentTag.OXE_DROID.value: 17}
"""Tag -> slot of the projectors."""
