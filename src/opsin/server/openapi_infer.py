"""What ``/openapi.json`` says of the Open Inference Protocol.

A request's body may be JSON with bytes behind it, so that FastAPI cannot describe it itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from opsin.server.open_inference import version_of
from opsin.server.openapi import disc
from opsin.server.served_model import Served
from opsin.server.tensors import InferRequest

_REF: Final = "#/components/schemas/"
_JSON: Final = "application/json"
_PARTS: Final = {
    "Predict": "A picture in, its label out.",
    "Models": "What is served.",
    "Open Inference Protocol": "KServe V2: for clients of Triton, KServe and their like.",
    "Server": "How it fares.",
}
_ERRORS: Final = {
    "400": "The request does not follow the protocol, or does not fit the model.",
    "404": "There is no such model, or no such version of it.",
    "408": "The body did not arrive in time.",
    "413": "The body has too many bytes.",
    "415": "The body is compressed in a way that is not read here.",
    "422": "A picture cannot be read; the protocol has no answers in part.",
    "503": "The server is busy or stopping; try again after the seconds in Retry-After.",
    "504": "There was no answer in time.",
}
_SCHEMAS: Final[Mapping[str, Any]] = {
    "ProtocolError": {
        "type": "object",
        "required": ["error"],
        "properties": {"error": {"type": "string", "description": "What is wrong, in one line."}},
    },
    "AnswerTensor": {
        "type": "object",
        "required": ["name", "datatype", "shape"],
        "properties": {
            "name": {"type": "string"},
            "datatype": {"enum": ["FP32", "BOOL", "BYTES"]},
            "shape": {"type": "array", "items": {"type": "integer"}},
            "data": {"type": "array", "items": {}},
            "parameters": {"type": "object"},
        },
    },
    "InferAnswer": {
        "type": "object",
        "required": ["model_name", "model_version", "outputs"],
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string", "description": "Start of the file's SHA-256."},
            "id": {"type": "string"},
            "outputs": {"type": "array", "items": {"$ref": f"{_REF}AnswerTensor"}},
        },
    },
}


def describe_infer(schema: dict[str, Any], served: Mapping[str, Served]) -> None:
    """Add the protocol's bodies and replies to a description of the server, and examples.

    Args:
        schema: The description; it is changed.
        served: The models in service; the first one stands in every example.
    """
    own = InferRequest.model_json_schema(ref_template=_REF + "{model}")
    parts: dict[str, Any] = own.pop("$defs", {})
    components = schema.setdefault("components", {}).setdefault("schemas", {})
    components |= {**parts, "InferRequest": own, **_SCHEMAS}
    schema["tags"] = [{"name": name, "description": text} for name, text in _PARTS.items()]
    for path, operation in _operations(schema):
        _fill_in(operation, served)
        if not path.startswith("/v2"):
            continue
        errors = _ERRORS if path.endswith("/infer") else {"404": _ERRORS["404"]}
        if "{model}" not in path:
            errors = {}
        operation["responses"] = {
            status: reply for status, reply in operation["responses"].items() if status == "200"
        } | {status: _reply("ProtocolError", text) for status, text in errors.items()}
        if path.endswith("/ready"):
            operation["responses"]["503"] = {"description": "It does not answer now."}
        if path.endswith("/infer"):
            operation["requestBody"] = _body()
            operation["responses"]["200"] = _reply("InferAnswer", "The tensors of the answers.")


def _operations(schema: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in schema.get("paths", {}).items():
        for operation in methods.values():
            yield path, operation


def _fill_in(operation: Mapping[str, Any], served: Mapping[str, Served]) -> None:
    """Name a model that there is, so that an example can be sent as it stands."""
    first = next(iter(served.values()), None)
    for parameter in operation.get("parameters", ()):
        if first is None:
            continue
        # Where one model is served, requests need not name it.
        if parameter["name"] == "model" and (parameter["in"] == "path" or len(served) > 1):
            parameter["example"] = first.name
        if parameter["name"] == "version":
            parameter["example"] = version_of(first)


def _reply(name: str, text: str) -> dict[str, Any]:
    return {
        "description": text,
        "content": {_JSON: {"schema": {"$ref": _REF + name}}},
    }


def _body() -> dict[str, Any]:
    picture = disc().partition(",")[2]
    inputs = [{"name": "image_bytes", "datatype": "BYTES", "shape": [1], "data": [picture]}]
    labels = {"name": "probabilities", "parameters": {"classification": 3}}
    examples = {
        "labels": {
            "summary": "The three best labels",
            "value": {"inputs": inputs, "outputs": [labels]},
        },
        "all": {"summary": "All tensors", "value": {"inputs": inputs}},
    }
    content = {"schema": {"$ref": f"{_REF}InferRequest"}, "examples": examples}
    return {"required": True, "content": {_JSON: content}}
