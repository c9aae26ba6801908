r"""From what a person typed to what Hydra's grammar understands.

Hydra reads ``key=value`` as a language: a comma begins a sweep, ``true`` is no text, quotes and blanks go away. That is
right for numbers, lists and choices. The value of a text parameter is instead taken exactly as it was typed, and quoted
here for the grammar. Three things keep a meaning in a text: ``${...}`` refers to another value (``\${`` is the plain
text ``${``), ``null`` is none where none is possible, and with ``-m`` a list to sweep over is a JSON list of texts
(``task=["a","b"]``) or ``choice('a','b')``.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, QuotedString, RangeSweep
from hydra.errors import HydraException
from omegaconf.errors import GrammarParseError
from omegaconf.grammar_parser import parse as parse_reference

from positronic.errors import PositronicError
from positronic.schemas import HYDRA_TEXTS, STAGES, parameters

KEY_AND_VALUE = re.compile(r"(?P<sign>\+{0,2}|~)(?P<key>[^=]*)=(?P<value>.*)", re.DOTALL)
STRUCTURED = "[{'\""  # what begins a value that is no plain word
# No shell expands `hydra.run.dir=~/x`, and Hydra's grammar refuses it.
HOME = re.compile(r"(?<=[=,\[])~(?=/)")
OPENED, CLOSED = "${", re.compile(r"\$\{.*\}", re.DOTALL)


def in_grammar(typed: Sequence[str], multirun: bool) -> list[str]:
    """What was typed, in Hydra's grammar. Raises PositronicError for what is no ``key=value``."""
    for override in typed:
        check_form(override)
    stages = _stages(typed)
    return [_in_grammar(override, stages, multirun) for override in typed]


def parse(overrides: Sequence[str]) -> list[Override]:
    """``overrides``, which are in Hydra's grammar, as Hydra's objects. Raises PositronicError for one that is not."""
    return [_parse_one(override) for override in overrides]


def as_typed(override: Override) -> str:
    """The override as a person would type it."""
    value = override.value()
    if isinstance(value, str) and is_text(STAGES, override.key_or_group):
        return f"{override.get_key_element()}={value}"
    return override.input_line or ""


def typed_values(parsed: Sequence[Override]) -> dict[str, str]:
    """Each key with the text behind its ``=``."""
    return {override.key_or_group: as_typed(override).partition("=")[2] for override in parsed}


def typed_keys(parsed: Sequence[Override]) -> list[str]:
    """Dotted keys of all values that were typed, those inside of ``{...}`` too."""
    own = [override for override in parsed if not override.is_hydra_override()]
    return [key for override in own for key in _below(override.key_or_group, override.value())]


def quoted(text: str) -> str:
    r"""``text`` as Hydra's grammar writes one: in quotes, a backslash before quotes in it.

    Backslashes are doubled only where they stand before a quote, as the grammar reads them.
    """
    inside = re.sub(r"(\\*)('|\Z)", lambda found: found[1] * 2 + (r"\'" if found[2] else ""), text)
    return f"'{inside}'"


def first_job(parsed: Sequence[Override]) -> list[str]:
    """A multirun's own config is that of its first job; Hydra would take the defaults of every part that is swept,
    and refuse ``vendor=a,b codec=c`` when the default vendor has no codec c."""
    return [_first_choice(override) for override in parsed]


def _first_choice(override: Override) -> str:
    if override.is_hydra_override() or not isinstance(override.value(), ChoiceSweep | RangeSweep):
        return override.input_line or ""
    return f"{override.get_key_element()}={next(iter(override.sweep_string_iterator()))}"


def check_form(override: str) -> None:
    """Raise PositronicError when ``override`` is no ``key=value``."""
    key, equals, value = override.partition("=")
    if override.startswith("~") and not override.startswith("~hydra"):
        name = key.removeprefix("~")
        raise PositronicError(f"'{override}' would take {name} away, and no part can be missing. Type {name}=null.")
    if override[:1] in "\u2010\u2011\u2012\u2013\u2014\u2015\u2212":
        bare = override.lstrip("\u2010\u2011\u2012\u2013\u2014\u2015\u2212-")
        plain = bare if equals else f"-{bare}" if len(bare) == 1 else f"--{bare}"
        raise PositronicError(f"Parameters are typed without dashes, and flags with plain ones. Type {plain}.")
    if not equals:
        raise PositronicError(f"Found '{override}', expected key=value{_instead(override)}")
    if key != key.strip() or not key:
        raise PositronicError(f"Found '{override}', expected key=value: no spaces around the =.")
    if value.startswith("=") and not is_text(STAGES, key.lstrip("+")):
        raise PositronicError(f"Found '{override}', expected one =. Type {key}={value.lstrip('=')}.")


def is_text(stages: Sequence[str] | Mapping[str, Any], key: str) -> bool:
    """Whether a dotted key names a text parameter in one of these stages."""
    return any(parameter.is_text for parameter in parameters(stages, key))


def _instead(override: str) -> str:
    if override in STAGES:
        return f". Type stage={override}."
    key, colon, value = override.partition(":")
    if colon and re.fullmatch(r"[\w.]+", key):
        return f". Type {key}={value.strip()}."
    return ": no spaces around the =, and quotes around a value that holds spaces."


def _stages(typed: Sequence[str]) -> list[str]:
    """The stages that these overrides may be for."""
    named = [word for override in typed if override.startswith("stage=") for word in override[6:].split(",")]
    if any(STAGES[word].hands_on for word in named if word in STAGES):
        return list(STAGES)
    return [stage for stage in STAGES if stage in named] or list(STAGES)


def _in_grammar(override: str, stages: Sequence[str], multirun: bool) -> str:
    found = KEY_AND_VALUE.fullmatch(override)
    if found is None:  # `~hydra...`
        return override
    key, value = found["key"], found["value"]
    texts = [parameter for parameter in parameters(stages, key) if parameter.is_text]
    if not texts:
        return _with_quotes_if_needed(HOME.sub(os.path.expanduser("~"), override))
    if value == "null" and any(parameter.may_be_null for parameter in texts):
        return override
    if key in HYDRA_TEXTS and value.startswith("~/"):
        value = os.path.expanduser(value)
    swept = _swept(key, value) if multirun and key not in HYDRA_TEXTS else None
    if swept is not None:
        return f"{found['sign']}{key}={','.join(quoted(_checked(key, text)) for text in swept)}"
    plain = f"{found['sign']}{key}={_checked(key, value)}"
    return plain if _reads_as(plain, _checked(key, value)) else f"{found['sign']}{key}={quoted(_checked(key, value))}"


def _checked(key: str, text: str) -> str:
    r"""``text``, its references complete; ``${`` that nothing closes is plain text, ``\${`` for OmegaConf.

    Raises PositronicError for a reference that cannot be read.
    """
    if OPENED not in text:
        return text
    if not CLOSED.search(text):
        return re.sub(r"(\\*)\$\{", lambda found: f"{found[1] * 2}\\${{", text)
    try:
        parse_reference(text)
    except GrammarParseError:
        raise PositronicError(
            f"{key}={text}: expected ${{<key>}} or ${{oc.env:<NAME>}} inside the braces. "
            r"To have the signs ${ themselves in a text, type \${."
        ) from None
    return text


def _swept(key: str, value: str) -> list[str] | None:
    """The texts of a list to sweep over; None for one text."""
    if value.startswith("["):
        try:
            listed = json.loads(value)
        except ValueError:
            return None
        return listed if listed and all(isinstance(text, str) for text in listed) else None
    if not value.startswith("choice(") or not _can_be_read(f"{key}={value}"):
        return None
    sweep = OverridesParser.create().parse_override(f"{key}={value}").value()
    if not isinstance(sweep, ChoiceSweep):
        return None
    texts = [item.text if isinstance(item, QuotedString) else item for item in sweep.list]
    if not all(isinstance(text, str) for text in texts):
        raise PositronicError(f"{key}={value}: put quotes around each text of the list.")
    return [str(text) for text in texts]


def _reads_as(override: str, value: str) -> bool:
    """Whether Hydra's grammar takes this text for what it is."""
    if not value or value[0] in STRUCTURED or not _can_be_read(override):
        return False
    found = OverridesParser.create().parse_override(override)._value
    return isinstance(found, str) and found == value


def _with_quotes_if_needed(override: str) -> str:
    """For what is no text parameter: quotes when Hydra's grammar cannot read the value as it is."""
    key, sign, value = override.partition("=")
    if not value or value[0] in STRUCTURED or OPENED in value or value.endswith(",") or _can_be_read(override):
        return override
    return f"{key}{sign}{quoted(value)}"


def _can_be_read(override: str) -> bool:
    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return True


def _parse_one(override: str) -> Override:
    try:
        return OverridesParser.create().parse_overrides([override])[0]
    except HydraException:
        key, _, value = override.partition("=")
        if value.endswith(","):
            raise PositronicError(f"{override}: a comma ends the value. Type {key}={value.rstrip(', ')}.") from None
        raise PositronicError(
            f"{override}: the value cannot be read. Expected a word, a number, [a,b] or {{a: b}}, all brackets and "
            "quotes closed."
        ) from None


def _below(key: str, value: Any) -> list[str]:
    if not isinstance(value, dict) or not value:
        return [key]
    return [inner for name, child in value.items() for inner in _below(f"{key}.{name}", child)]
