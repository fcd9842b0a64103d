"""What ``/openapi.json`` says of predicting.

They take bodies of several kinds and are plain ASGI, so that FastAPI cannot describe them itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from opsin.data.image_encoding import png_address
from opsin.server.server_settings import ServerSettings

ERRORS: Final[Mapping[str, str]] = {
    "400": "The body, the query or the Host header cannot be understood.",
    "401": "The token is missing or wrong.",
    "403": "A page of another site asks.",
    "404": "There is no such model.",
    "408": "The body did not arrive in time.",
    "413": "The body has too many bytes, or too many pictures.",
    "415": "A body of this kind is not read here.",
    "421": "The Host header is no name of this server.",
    "422": "The one picture that was sent cannot be read.",
    "503": "The server is busy or stopping; try again after the seconds in Retry-After.",
    "504": "There was no answer in time.",
}

# Statuses with which the guard refuses, whatever is asked.
_GUARD: Final = ("400", "401", "403", "421")
_TEXT: Final = {"type": "string"}
_NUMBER: Final = {"type": "number"}
_SHARE: Final = {"type": "number", "minimum": 0, "maximum": 1}
_ERROR: Final = {
    "type": "object",
    "required": ["kind", "expected", "received", "advice"],
    "properties": {
        "kind": {**_TEXT, "examples": ["BadRequest"]},
        "expected": {**_TEXT, "description": "What was needed."},
        "received": {**_TEXT, "description": "What came instead."},
        "advice": {**_TEXT, "description": "What to do about it."},
    },
}
_PREDICTION: Final = {
    "type": "object",
    "description": "The answer for one picture, or the error that stands in its place.",
    "required": ["name"],
    "properties": {
        "name": {**_TEXT, "description": "The file's name where one was given."},
        "answer": {**_TEXT, "description": 'The label, or "none of these".'},
        "label": {**_TEXT, "description": "The most probable class."},
        "confidence": {**_SHARE, "description": "Its probability."},
        "rejected": {
            "type": "boolean",
            "description": "Whether the picture is like none of the training pictures.",
        },
        "familiarity": {
            "type": ["number", "null"],
            "description": "How much it is like them, -1 to 1; null where the file cannot tell.",
        },
        "top": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["label", "score"],
                "properties": {"label": _TEXT, "score": _SHARE},
            },
        },
        "notes": {"type": "array", "items": _TEXT},
        "warning": {
            "type": ["string", "null"],
            "description": "Why the answer means nothing, where the picture has no contrast, is a "
            "smooth gradient or noise; without contrast there is no explanation either.",
        },
        "probabilities": {
            "type": "object",
            "additionalProperties": _SHARE,
            "description": "With all=true: of every class.",
        },
        "embedding": {
            "type": ["array", "null"],
            "items": _NUMBER,
            "description": "With embedding=true: what the last layer sees.",
        },
        "explanation": {
            "type": "object",
            "description": "With explain=true: by how much the label's probability falls where a "
            "part is hidden, for each pixel of the network's input, and where it falls most.",
            "required": ["method", "heat", "strongest"],
            "properties": {
                "method": {"const": "occlusion"},
                "heat": {"type": "array", "items": {"type": "array", "items": _NUMBER}},
                "strongest": {
                    "type": "object",
                    "properties": {
                        "row": {"type": "integer"},
                        "column": {"type": "integer"},
                        "fall": _NUMBER,
                    },
                },
            },
        },
        "error": {"$ref": "#/components/schemas/Error"},
    },
}
SCHEMAS: Final[Mapping[str, Any]] = {
    "Error": _ERROR,
    "ErrorReply": {
        "type": "object",
        "required": ["error"],
        "properties": {"error": {"$ref": "#/components/schemas/Error"}},
    },
    "Prediction": _PREDICTION,
    "Predictions": {
        "type": "object",
        "required": ["model", "digest", "predictions"],
        "properties": {
            "model": _TEXT,
            "digest": {**_TEXT, "description": "SHA-256 of the file that answered."},
            "predictions": {
                "type": "array",
                "items": {"$ref": "#/components/schemas/Prediction"},
            },
        },
    },
}


def describe_predicting(schema: dict[str, Any], settings: ServerSettings) -> None:
    """Add the predicting routes, their bodies and their replies to a description of the server."""
    components = schema.setdefault("components", {})
    components.setdefault("schemas", {}).update(SCHEMAS)
    if settings.token is not None:
        components["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer"},
            "password": {"type": "http", "scheme": "basic"},
        }
        schema["security"] = [{"token": []}, {"password": []}]
    several = {
        "name": "model",
        "in": "query",
        "description": "Which model; not needed where one is served.",
        "schema": _TEXT,
    }
    paths = schema.setdefault("paths", {})
    paths["/predict"] = {"post": _operation("predict", [several, *_options(settings)], settings)}
    model = {"name": "model", "in": "path", "required": True, "schema": _TEXT}
    paths["/v1/models/{model}:predict-image"] = {
        "post": _operation("predict_image", [model, *_options(settings)], settings)
    }


def describe_errors(schema: dict[str, Any]) -> None:
    """Add to every route what the guard replies, in place of the errors that FastAPI assumes."""
    for operation in (each for path in schema["paths"].values() for each in path.values()):
        replies = operation["responses"]
        if "HTTPValidationError" in str(replies.get("422")):
            del replies["422"]
        for status, reply in error_replies(*_GUARD).items():
            replies.setdefault(status, reply)
    for name in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(name, None)


def error_replies(*statuses: str) -> dict[int | str, Any]:
    """Return the replies of some statuses that are errors, or of all."""
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorReply"}}}
    return {
        status: {"description": text, "content": content}
        for status, text in ERRORS.items()
        if status in (statuses or ERRORS)
    }


def _options(settings: ServerSettings) -> list[dict[str, Any]]:
    top = {"type": "integer", "minimum": 1, "maximum": 999_999_999, "default": settings.top}
    switches = {
        "all": "Return the probability of every class.",
        "embedding": "Return what the last layer sees.",
        "explain": "Return which parts of the picture the answer rests on; this takes many times "
        "as long.",
        "as_is": "Leave a background as it is that is the opposite of the training pictures'.",
    }
    options = [("top", top, "Classes to return, the most probable first.")]
    options += [(n, {"type": "boolean", "default": False}, text) for n, text in switches.items()]
    return [
        {"name": name, "in": "query", "description": text, "schema": kind}
        for name, kind, text in options
    ]


def _operation(
    name: str, parameters: list[dict[str, Any]], settings: ServerSettings
) -> dict[str, Any]:
    """Describe a route: the same one under two addresses."""
    picture = {"type": "string", "format": "binary"}
    text = {"type": "string", "description": "base64 without line breaks, or a data: address"}
    both = disc(), disc(radius=5)
    reply = {"application/json": {"schema": {"$ref": "#/components/schemas/Predictions"}}}
    return {
        "tags": ["Predict"],
        "summary": "Classify one picture or many",
        "description": "The body is a picture's bytes, a form with one or many files, or JSON "
        "with base64. Of many pictures, one that cannot be read has an error in place of its "
        f"answer. Limits: {settings.max_bytes:,} bytes and {settings.max_parts:,} pictures in a "
        f"request, {settings.max_pixels:,} pixels in a picture.",
        "operationId": name,
        "parameters": parameters,
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "oneOf": [
                            _only("image", text),
                            _only(
                                "images",
                                {
                                    "type": "array",
                                    "items": text,
                                    "minItems": 1,
                                    "maxItems": settings.max_parts,
                                },
                            ),
                        ]
                    },
                    "examples": {
                        "one": {"summary": "One picture", "value": {"image": both[0]}},
                        "many": {"summary": "Two pictures", "value": {"images": list(both)}},
                    },
                },
                "image/png": {"schema": picture},
                "image/jpeg": {"schema": picture},
                "application/octet-stream": {"schema": picture},
                "multipart/form-data": {
                    "schema": _only("image", {"type": "array", "items": picture, "minItems": 1})
                },
            },
        },
        "responses": {"200": {"description": "The answers, in order.", "content": reply}}
        | error_replies(),
    }


def _only(name: str, kind: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: kind},
        "required": [name],
        "additionalProperties": False,
    }


def disc(radius: int = 9) -> str:
    """Draw a light disc on black, 28×28 grey, as the address of a PNG: an example's picture."""
    rows, columns = np.mgrid[:28, :28] - 13.5
    inside = rows**2 + columns**2 <= radius**2
    return png_address((inside * np.uint8(220)).astype(np.uint8)[:, :, None])
