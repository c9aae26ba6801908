"""What is wrong with a mapping, each fault as one sentence that says what to type."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from positronic import keys
from positronic.embodiments.embodiment import Arm, Embodiment
from positronic.errors import PositronicError, did_you_mean, listing
from positronic.importing import quantities as q
from positronic.importing.conversion import BEYOND, POSITION
from positronic.importing.mapping import ANGLES, CONVENTIONS, LENGTHS, OPEN, ROTATIONS, ImportMapping, SignalMapping
from positronic.importing.quantities import Number, Quantity
from positronic.importing.source import IMAGE, TEXT, FieldInfo

Fields = Mapping[str, FieldInfo]


def require_sound(mapping: ImportMapping, fields: Fields, embodiment: Embodiment, path: Path | str) -> None:
    """Raise PositronicError with all that is wrong. ``path``: of the mapping."""
    found = problems(mapping, fields, embodiment)
    if found:
        raise PositronicError("\n".join([f"The mapping {path} cannot be used:", *(f"  {each}" for each in found)]))


def problems(mapping: ImportMapping, fields: Fields, embodiment: Embodiment) -> list[str]:
    """One sentence for each fault; empty for a mapping that can be used."""
    if mapping.embodiment not in (OPEN, embodiment.name):
        return [
            f"embodiment: {mapping.embodiment}, but embodiment={embodiment.name} is chosen. Type "
            f"embodiment={mapping.embodiment}, or change the mapping."
        ]
    found = [
        *_of_all(mapping, fields, embodiment),
        *(sentence for key, signal in mapping.signals.items() for sentence in _of_one(key, signal, fields, embodiment)),
    ]
    return found + list(_shared(mapping, fields, embodiment))


def _of_all(mapping: ImportMapping, fields: Fields, embodiment: Embodiment) -> Iterator[str]:
    if not mapping.signals:
        yield f"signals: none. Type for each e.g. '{q.keys_of(embodiment)[0]}: {{from: <field>}}'."
    yield from (
        f"{name}: ???: nobody has decided it. Type its value." for name in ("task", "fps") if _is_open(mapping, name)
    )
    if mapping.task_from is not None:
        yield from _of_task(mapping.task_from, fields)
    mentioned = {field for signal in mapping.signals.values() for field in signal.fields} | {mapping.task_from}
    for field in mapping.left_out:
        if field not in fields:
            yield f"left_out: the recording has no field '{field}'.{did_you_mean(field, fields)} Take it out."
        elif field in mentioned:
            yield f"left_out: '{field}' is imported above. Take it out of one of the two."
    silent = [field for field in fields if field not in mentioned and field not in mapping.left_out]
    if silent:
        yield f"left_out: nothing is said of {listing(silent)}. Add it there, or to a signal."


def _is_open(mapping: ImportMapping, name: str) -> bool:
    return getattr(mapping, name) == OPEN


def _of_task(field: str, fields: Fields) -> Iterator[str]:
    if field not in fields:
        yield f"task_from: the recording has no field '{field}'.{did_you_mean(field, fields)}"
    elif fields[field].kind != TEXT:
        yield f"task_from: '{field}' holds {fields[field].kind}s, no text."


def _of_one(key: str, signal: SignalMapping, fields: Fields, embodiment: Embodiment) -> Iterator[str]:
    quantity = q.quantity_of(key, embodiment)
    if quantity is None:
        yield _unknown_key(key, embodiment)
        return
    missing = [field for field in signal.fields if field not in fields]
    for field in missing:
        yield f"{key}: the recording has no field '{field}'.{did_you_mean(field, fields)} Present: {listing(fields)}."
    yield from _of_conventions(key, signal, quantity)
    if missing:
        return
    wanted = IMAGE if quantity.kind == q.CAMERA else "numbers"
    for field in signal.fields:
        kind = fields[field].kind if fields[field].kind in (IMAGE, TEXT) else "numbers"
        if kind != wanted:
            yield f"{key}: expected {wanted}, '{field}' holds {kind}."
            return
    yield from _of_camera(key, signal) if quantity.kind == q.CAMERA else _of_numbers(key, signal, quantity, fields)


def _unknown_key(key: str, embodiment: Embodiment) -> str:
    known, name = q.keys_of(embodiment), f"embodiment={embodiment.name}"
    if key.startswith(keys.IMAGE_PREFIX):
        camera = key.removeprefix(keys.IMAGE_PREFIX)
        hint = did_you_mean(camera, embodiment.cameras)
        return (
            f"{key}: {name} has no camera '{camera}', only {listing(embodiment.cameras)}.{hint} Another one is added "
            f"with 'embodiment.cameras={{{camera}: <role>}}'."
        )
    plain, arm = keys.split_arm(key)
    if plain in q.OF_KEY and arm not in embodiment.by_name:
        there = (
            listing(each.name for each in embodiment.arms) if embodiment.has_several_arms else "one arm without name"
        )
        fitting = next((each for each in known if keys.split_arm(each)[0] == plain), None)
        return f"{key}: {name} has {there}." + (f" Type {fitting}." if fitting else "")
    return f"{key}: {name} has no such raw signal.{did_you_mean(key, known)} Known: {listing(known, 20)}."


def _of_conventions(key: str, signal: SignalMapping, quantity: Quantity) -> Iterator[str]:
    for name in signal.undecided:
        yield f"{key}: {name} is ???: nobody has decided it. Type '{name}: {_values_of(name, quantity)}'."
    needed = q.NEEDED[quantity.kind]
    for name in needed:
        if getattr(signal, name) is None:
            yield f"{key}: it does not say its {name}. Type '{name}: {_values_of(name, quantity)}'."
    for name in (*CONVENTIONS, "base"):
        if getattr(signal, name) is not None and name not in (*q.ALLOWED[quantity.kind], *q.ANY):
            yield f"{key}: '{name}' says nothing about a {quantity.kind} signal. Take it out."
    units = ANGLES if quantity.kind in (q.JOINTS, q.SPEEDS) else tuple(LENGTHS)
    if "unit" in needed and signal.unit not in (None, OPEN, *units):
        yield f"{key}: unit: {signal.unit}; expected one of {', '.join(units)}."
    if signal.unit == "m100_100" and not _has_limits(quantity.arm):
        yield f"{key}: unit: m100_100 stands for the joints' ranges, and the embodiment does not say all of them."
    if signal.open is not None and signal.open == signal.closed != OPEN:
        yield f"{key}: open and closed are both {signal.open:g}."
    if signal.base is not None and len(signal.base) != 7 and signal.base != (OPEN,):
        yield f"{key}: base has {len(signal.base)} numbers; expected 7: [x, y, z, qw, qx, qy, qz]."


def _has_limits(arm: Arm | None) -> bool:
    return arm is not None and all(ends is not None and None not in ends for ends in (arm.lower, arm.upper))


def _values_of(name: str, quantity: Quantity) -> str:
    units = ANGLES if quantity.kind in (q.JOINTS, q.SPEEDS) else tuple(LENGTHS)
    options = {
        "unit": "|".join(units),
        "rotation": "|".join(ROTATIONS),
        "open": "<what the recording says of an open gripper>",
        "closed": "<what the recording says of a closed gripper>",
        "clock": "header|log",
        "channels": "rgb|bgr",
        "dims": "[<name or place>, ...]",
        "base": "[x, y, z, qw, qx, qy, qz]",
    }
    return options[name]


def _of_camera(key: str, signal: SignalMapping) -> Iterator[str]:
    if len(signal.fields) > 1:
        yield f"{key}: one camera comes from one field, found {listing(signal.fields)}."
    if signal.dims is not None:
        yield f"{key}: 'dims' says nothing about a picture. Take it out."


def _of_numbers(key: str, signal: SignalMapping, quantity: Quantity, fields: Fields) -> Iterator[str]:
    if signal.dims == (OPEN,):
        return
    there = q.numbers_of(signal, fields)
    wrong = [sentence for dim in signal.dims or () if (sentence := _wrong_dim(key, dim, there))]
    yield from wrong
    if wrong:
        return
    found = q.chosen(signal, fields)
    yield from _wrong_size(key, signal, quantity, found)
    yield from _out_of_range(key, signal, quantity, found, fields)


def _wrong_dim(key: str, dim: str | int, there: list[Number]) -> str | None:
    names = [number.name for number in there if number.name]
    same = sum(dim in (number.name, place) for place, number in enumerate(there))
    if same == 1:
        return None
    if same:
        return f"{key}: several numbers are called '{dim}'. Type their places instead, 0 to {len(there) - 1}."
    known = f"named {listing(names, 20)}" if names else f"without names, 0 to {len(there) - 1}"
    return f"{key}: there is no number '{dim}'.{did_you_mean(str(dim), names)} There are {len(there)}, {known}."


def _wrong_size(key: str, signal: SignalMapping, quantity: Quantity, found: list[Number]) -> Iterator[str]:
    expected = expected_size(signal, quantity)
    if expected is not None and len(found) != expected[0]:
        which = "Type which: 'dims: [<name or place>, ...]'."
        yield f"{key}: {len(found)} numbers, expected {expected[0]}, {expected[1]}. {which}"
    twice = [number for number in found if found.count(number) > 1]
    if twice:
        yield f"{key}: number {twice[0].place} of '{twice[0].field}' is there twice."


def expected_size(signal: SignalMapping, quantity: Quantity) -> tuple[int, str] | None:
    """How many numbers a sample has, and what they are; None while the rotation's layout is open."""
    if quantity.kind in (q.JOINTS, q.SPEEDS):
        joints = quantity.arm.joints
        return len(joints), f"the joints {', '.join(joints)}"
    if quantity.kind == q.GRIPPER:
        return 1, "of the gripper"
    if signal.rotation not in ROTATIONS:
        return None
    return POSITION + ROTATIONS[signal.rotation], f"a position and {signal.rotation}"


def _out_of_range(
    key: str, signal: SignalMapping, quantity: Quantity, found: list[Number], fields: Fields
) -> Iterator[str]:
    """What the first episode holds contradicts the mapping."""
    ends = signal.open, signal.closed
    if quantity.kind != q.GRIPPER or None in ends or OPEN in ends or ends[0] == ends[1] or len(found) != 1:
        return
    info, place = fields[found[0].field], found[0].place
    if not info.low:
        return
    low, high = info.low[place], info.high[place]
    slack = BEYOND * abs(ends[1] - ends[0])
    if low < min(ends) - slack or high > max(ends) + slack:
        yield (
            f"{key}: the recording goes from {low:g} to {high:g}, far outside of open: {ends[0]:g} and closed: "
            f"{ends[1]:g}. Type what it says of an open and of a closed gripper."
        )


def _shared(mapping: ImportMapping, fields: Fields, embodiment: Embodiment) -> Iterator[str]:
    """Two signals that one number or picture of the recording would become."""
    takers: dict[tuple[str, int], list[str]] = defaultdict(list)
    for key, signal in mapping.signals.items():
        quantity = q.quantity_of(key, embodiment)
        try:
            is_camera = quantity is not None and quantity.kind == q.CAMERA
            taken = {(f, -1) for f in signal.fields} if is_camera else {n[:2] for n in q.chosen(signal, fields)}
        except KeyError:  # said above
            continue
        for each in taken:
            takers[each].append(key)
    pairs = dict.fromkeys((tuple(names), field) for (field, _), names in takers.items() if len(names) > 1)
    for names, field in pairs:
        both = " and ".join(names)
        yield f"{both}: both are mapped to the same of '{field}'. Give each its own 'from' or 'dims'."
