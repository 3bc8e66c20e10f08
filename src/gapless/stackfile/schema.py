"""The JSON Schema of the file (draft 2020-12), generated from the model, overlays included.

Editors complete and check with it. It knows each key and form; what only the whole can tell
(references, routes, pairs that contradict each other) is the loader's.
"""

from __future__ import annotations

from typing import Any

from gapless.model import units
from gapless.model.stack import Stack
from gapless.stackfile import overlays, shape

Schema = dict[str, Any]
_NAME = "^[a-z][a-z0-9]*(-[a-z0-9]+)*$"
_FIXED = ("gapless", "name")
_PARTIAL = "Overlay"


def schema() -> Schema:
    """The whole schema, as JSON values."""
    made = _tidy(Stack.model_json_schema())
    for hidden in shape.HIDDEN:
        del made["properties"][hidden]
    definitions: dict[str, Schema] = made["$defs"]
    overlay = _partial(
        {
            "description": "Differences of one environment: tables merge, the rest replaces.",
            "type": "object",
            "additionalProperties": False,
            "properties": {
                key: value for key, value in made["properties"].items() if key not in _FIXED
            },
        }
    )
    overlay["properties"]["unset"] = {
        "description": "Keys of the base that this environment does not have.",
        "type": "array",
        "items": {"type": "string"},
        "examples": [["service.web.sticky"]],
    }
    partials = {f"{name}{_PARTIAL}": _partial(value) for name, value in definitions.items()}
    made["$defs"] = {**definitions, **partials, _PARTIAL: overlay}
    made["properties"]["for"] = {
        "description": "Overlays by name: gapless --for NAME.",
        "type": "object",
        "additionalProperties": False,
        "patternProperties": {_NAME: {"$ref": f"#/$defs/{_PARTIAL}"}},
    }
    made["patternProperties"] = {"^x-": True}
    made["properties"]["service"]["minProperties"] = 1
    made["required"] = [*made["required"], "service"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **made,
        "title": "gapless.toml",
    }


def _tidy(node: Any) -> Any:
    """TOML has no null, tables of names have no other keys, and defaults are as one writes them."""
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    made: Schema = {key: _tidy(value) for key, value in node.items() if key != "properties"}
    if "properties" in node:
        made["properties"] = {key: _tidy(value) for key, value in node["properties"].items()}
    if isinstance(made.get("title"), str):
        del made["title"]
    if "anyOf" in made:
        forms = [form for form in made.pop("anyOf") if form != {"type": "null"}]
        made.update(forms[0] if len(forms) == 1 else {"anyOf": forms})
    if "patternProperties" in made:
        made["additionalProperties"] = False
    if "default" in made:
        _default(made)
    return made


def _default(made: Schema) -> None:
    value = made["default"]
    if value is None or isinstance(value, dict):
        # Absent says it all; the defaults of a table are those of its keys.
        del made["default"]
    elif made.get("pattern") == units.DURATION_FORM:
        made["default"] = units.format_duration(value)
    elif made.get("pattern") == units.SIZE_FORM:
        made["default"] = units.format_size(value)
    elif made.get("pattern") == units.RATE_FORM:
        made["default"] = units.format_rate(value)


def _partial(node: Any) -> Any:
    """The same with nothing required, below it too."""
    if isinstance(node, list):
        return [_partial(item) for item in node]
    if not isinstance(node, dict):
        return node
    made = overlays.copy(
        {key: _partial(value) for key, value in node.items() if key not in ("required", "default")}
    )
    if isinstance(made.get("$ref"), str):
        made["$ref"] += _PARTIAL
    return made
