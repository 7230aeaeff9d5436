"""The service in OpenAPI's words: what each path takes and gives."""

from __future__ import annotations

from typing import Any

from torchbcos import __version__
from torchbcos.service.limits import Limits
from torchbcos.service.questions import METHODS

__all__ = ["described_api"]

_JSON = "application/json"
_WORDS = {
    "401": "The token is missing or wrong.", "403": "A page of another site asked.", "406": "No such form of an answer.",
    "408": "The picture came too slowly.", "413": "The picture has too many bytes.", "415": "That is no picture.",
    "421": "The service is not called by that name.",
    "422": "The picture or a parameter does not fit; the sentence says what would.",
    "429": "Too many requests wait; Retry-After says for how long.", "503": "It took too long, or the service ends.",
}  # fmt: skip


def described_api(limits: Limits, token: bool) -> dict[str, Any]:
    """The description, ready for JSON.

    Args:
        limits: which it names.
        token: whether requests need one.

    >>> sorted(described_api(Limits(), token=False)["paths"])
    ['/healthz', '/metrics', '/readyz', '/v1/change', '/v1/compare', '/v1/explain', '/v1/feature', '/v1/models', '/v1/predict']
    """
    top_k = {"type": "integer", "minimum": 1, "maximum": limits.top_k}
    model = _parameter("model", "Which model; without it the first.", {"type": "string"})
    smooth = _parameter("smooth", "Pixels over which the opacity of W's picture is averaged.", {"type": "integer", "default": 15})
    one = _parameter("class", "The class, by name or index. Without it the first.", {"type": "string"})
    steps = _parameter("steps", "Changes, with commas: grey, blur or mean, and :remove or :keep (only it).", {"type": "string"})
    method = _parameter("method", "Which method.", {"type": "string", "enum": list(METHODS)})
    at = _parameter("at", "The layer, as /v1/models lists them.", {"type": "string"})
    channel = _parameter("channel", "Its channel; without it the strongest.", {"type": "integer", "minimum": 0})
    explain = [
        model, _parameter("class", "A class to explain, by name or index; may be repeated. Without it the highest.", _MANY),
        _parameter("contrast", "Explain why the class rather than this one.", {"type": "string"}),
        _parameter("top_k", "Explain so many of the highest classes.", top_k | {"default": 1}),
        _parameter("maps", "Add the maps: contributions as float32 (base64), pictures as PNG (base64).", {"type": "boolean"}),
        smooth,
    ]  # fmt: skip
    record = {"$ref": "#/components/schemas/Record"}
    forms = {_JSON: record, "image/png": _BINARY, "application/x-npz": _BINARY, "application/x-torchbcos-proof": _BINARY}
    paths: dict[str, Any] = {
        "/v1/predict": {"post": _asks("The most probable classes.", [model, _parameter("top_k", "How many.", top_k | {
            "default": 5})], {_JSON: record}, limits)},
        "/v1/explain": {"post": _asks("Why: numbers that add up to the logit, a panel, or all arrays.", explain, forms, limits)},
        "/v1/change": {"post": _asks("Change the picture, predict what that does, and run the network again.", [
            model, one, steps, smooth], {_JSON: record}, limits, masks=True)},
        "/v1/compare": {"post": _asks("A map by another method.", [model, one, method], {_JSON: {"type": "object"}}, limits)},
        "/v1/feature": {"post": _asks("Which pixels make an inner feature.", [model, at, channel, smooth], {
            _JSON: {"type": "object"}}, limits)},
        "/v1/models": {"get": _gives("The models.", {_JSON: {"type": "object"}})},
        "/healthz": {"get": _gives("The service runs.", {_JSON: {"type": "object"}})},
        "/readyz": {"get": _gives("The first model is in memory and requests may come (200), or not yet (503).", {
            _JSON: {"type": "object"}})},
        "/metrics": {"get": _gives("Counters, in the text of Prometheus.", {"text/plain": {"type": "string"}})},
    }  # fmt: skip
    described: dict[str, Any] = {
        "openapi": "3.1.0", "paths": paths,
        "info": {"title": "torchbcos", "version": __version__, "description": "Predictions, and exact explanations of them."},
        "components": {"schemas": {"Record": _RECORD, "Error": _ERROR}},
    }  # fmt: skip
    if token:
        described["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        described["security"] = [{"token": []}]
    return described


_MASK = "White where it was brushed, as large as the network's picture; mask2, mask3, … of further steps."
_MANY = {"type": "array", "items": {"type": "string"}}
_BINARY = {"type": "string", "format": "binary"}
_ERROR = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
_NUMBER, _TEXT = {"type": ["number", "null"]}, {"type": "string"}
_PREDICTION = {
    "type": "object",
    "properties": {"index": {"type": "integer"}, "label": _TEXT, "probability": _NUMBER, "logit": _NUMBER},
}
_EXPLANATION = {
    "type": "object",
    "description": "value = contribution + all constants + residual; share: what part of it, aside, the pixels carry.",
    "properties": {
        "index": {"type": "integer"}, "label": _TEXT, "value": _NUMBER, "contribution": _NUMBER, "aside": _NUMBER,
        "constants": {"type": "object", "additionalProperties": _NUMBER}, "residual": _NUMBER, "share": _NUMBER,
        "complete": {"type": "boolean"}, "maps": {"type": "object"},
    },
}  # fmt: skip
_RECORD = {
    "type": "object",
    "description": "What `torchbcos explain --json` prints of a picture.",
    "properties": {
        "file": _TEXT, "error": {"type": ["string", "null"]}, "predictions": {"type": "array", "items": _PREDICTION},
        "explanations": {"type": "array", "items": _EXPLANATION}, "crop": {"type": "object"}, "undecided": {"type": "boolean"},
        "warning": _TEXT,
    },
}  # fmt: skip


def _parameter(name: str, words: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": words, "schema": schema}


def _gives(words: str, forms: dict[str, Any]) -> dict[str, Any]:
    return {"summary": words, "responses": {"200": {"description": words, "content": _content(forms)}}}


def _asks(
    words: str, parameters: list[dict[str, Any]], forms: dict[str, Any], limits: Limits, *, masks: bool = False
) -> dict[str, Any]:  # fmt: skip
    fields = {"picture": _BINARY, **({"mask1": {**_BINARY, "description": _MASK}} if masks else {})}
    body: dict[str, Any] = {} if masks else {"image/*": _BINARY}
    body["multipart/form-data"] = {"type": "object", "required": list(fields), "properties": fields}
    errors = {
        status: {"description": sentence, "content": _content({_JSON: {"$ref": "#/components/schemas/Error"}})}
        for status, sentence in _WORDS.items()
    }
    about = f"A picture: at most {limits.bytes:,} bytes and {limits.pixels:,} pixels."
    return {
        "summary": words, "parameters": parameters,
        "requestBody": {"required": True, "description": about, "content": _content(body)},
        "responses": {"200": {"description": words, "content": _content(forms)}, **errors},
    }  # fmt: skip


def _content(forms: dict[str, Any]) -> dict[str, Any]:
    return {kind: {"schema": schema} for kind, schema in forms.items()}
