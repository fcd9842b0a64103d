"""Files as skops writes them, made without it: plain JSON and arrays."""

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.conftest import write_zip

Node = dict[str, Any]
Members = dict[str, bytes]


def npy(values: Any, *, allow_pickle: bool = False) -> bytes:
    stored = io.BytesIO()
    np.save(stored, values, allow_pickle=allow_pickle)
    return stored.getvalue()


def node(kind: str, module: str, loader: str, **further: Any) -> Node:
    return {"__class__": kind, "__module__": module, "__loader__": loader, **further}


def plain(value: object) -> Node:
    return node("str", "builtins", "JsonNode", content=json.dumps(value), is_json=True)


def described(value: Any, members: Members) -> Node:
    kind, module = type(value).__name__, type(value).__module__
    if value is None or isinstance(value, str | int | float):
        return plain(value)
    if isinstance(value, np.ndarray | np.generic):
        name = f"{len(members)}.npy"
        members[name] = npy(value)
        return node(kind, "numpy", "NdArrayNode", type="numpy", file=name)
    if isinstance(value, list | tuple):
        items = [described(each, members) for each in value]
        return node(kind, module, f"{kind.title()}Node", content=items)
    if isinstance(value, dict):
        content = {str(key): described(each, members) for key, each in value.items()}
        types = node(
            "list",
            "builtins",
            "ListNode",
            content=[node("str", "builtins", "TypeNode")] * len(value),
        )
        return node(kind, module, "DictNode", content=content, key_types=types)
    if kind == "Tree":
        made = described(value.__reduce__()[1][:1], members)
        state = described(value.__getstate__(), members)
        return node(kind, module, "TreeNode", content=state, __reduce__={"args": made})
    if kind in ("Generator", "_BinMapper", "LabelEncoder") or "loss" in module:
        return plain(None)  # which nothing is read of
    state = described(value.__getstate__(), members)
    return node(kind, module, "ObjectNode", content=state)


def attributes(schema: Node) -> dict[str, Node]:
    found: dict[str, Node] = schema["content"]["content"]
    return found


def write_skops(
    path: Path,
    estimator: Any,
    *,
    changed: Callable[[Node, Members], object] = lambda _, __: None,
    further: Mapping[str, bytes] | None = None,
) -> Path:
    members: Members = {}
    schema = described(estimator, members)
    changed(schema, members)
    schema |= {"protocol": 2, "_skops_version": "0.16.0"}
    written = {**members, "schema.json": json.dumps(schema).encode(), **(further or {})}
    return write_zip(path, written, zipfile.ZIP_STORED)
