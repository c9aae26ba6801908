"""Files that both dataset formats share: JSON, and the tables of numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from numpy.typing import NDArray

from positronic import keys
from positronic.bake.statistics import Stats


def data_schema(feature_info: Mapping[str, dict[str, Any]], list_type: str) -> pa.Schema:
    """The schema of the data files, with the metadata from which Hugging Face's datasets knows the columns.

    ``list_type``: that library's name for a list of fixed length: ``List`` from release 4 on, ``Sequence`` before.
    """
    fields, described = [], {}
    for name, feature in feature_info.items():
        if feature["dtype"] == "video":
            continue
        (size,), value = feature["shape"], {"dtype": feature["dtype"], "_type": "Value"}
        kind = pa.type_for_alias(feature["dtype"])
        described[name] = value if size == 1 else {"feature": value, "length": size, "_type": list_type}
        fields.append(pa.field(name, kind if size == 1 else pa.list_(pa.field("element", kind), size)))
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": described}})})


def data_table(schema: pa.Schema, columns: Mapping[str, NDArray[Any]]) -> pa.Table:
    """An episode's columns, (T, D) or (T,), as a table with ``schema``."""
    return pa.table([_array(columns[field.name], field.type) for field in schema], schema=schema)


def listed(stats: Stats) -> dict[str, list]:
    """JSON-ready."""
    return {key: value.tolist() for key, value in stats.items()}


def write_stats(root: Path, stats: Mapping[str, Stats]) -> None:
    """Write the statistics over all frames."""
    write_json(root / keys.STATS_FILE, _content(stats))


def stats_text(stats: Mapping[str, Stats]) -> str:
    """What ``write_stats`` writes."""
    return json_text(_content(stats))


def write_json(path: Path, content: Any) -> None:
    """Write JSON that people can read too. The folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json_text(content), encoding="utf-8")


def json_text(content: Any) -> str:
    """JSON that people can read too."""
    return json.dumps(content, indent=4, ensure_ascii=False) + "\n"


def _content(stats: Mapping[str, Stats]) -> dict[str, dict[str, list]]:
    return {name: listed(values) for name, values in stats.items()}


def _array(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    flat = pa.array(values.reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, type=kind) if pa.types.is_fixed_size_list(kind) else flat
