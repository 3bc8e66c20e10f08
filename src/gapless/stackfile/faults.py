"""What the model finds wrong, said in the words of the file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pydantic

from gapless.model import scale
from gapless.model.stack import Stack
from gapless.model.units import show
from gapless.stackfile import overlays, unknown
from gapless.stackfile.places import Path
from gapless.stackfile.report import Report, split
from gapless.stackfile.source import Tree

PASSES = 4
"""Looks at one tree. A fault hides others of its table, so faulty keys are taken out and the
rest is looked at again; what still hides after that shows once the first faults are mended."""
FORMS: dict[tuple[str, ...], str] = {
    ("name",): 'must be lower-case letters, digits and hyphens, such as "chat"',
    ("domains",): 'must be a list of host names such as ["chat.example.com"]',
    ("edge", "listen"): 'must be an address and a port, such as "127.0.0.1:8080" or "*:80"',
    ("edge", "tls_listen"): 'must be an address and a port, such as "127.0.0.1:8443" or "*:443"',
    ("edge", "hsts"): 'must be a duration such as "1y" or a table { age, subdomains, preload }',
    ("edge", "acme", "directory"): "must be an https address",
    ("edge", "acme", "email"): 'must be an address such as "ops@example.com"',
    ("service", "NAME", "route"): 'must be a path such as "/api", a table { host, path } or false',
    ("service", "NAME", "route", "host"): 'must be a host name such as "chat.example.com"',
    ("service", "NAME", "ready"): 'must be a path such as "/health/ready" or a table',
    ("service", "NAME", "scale"): "must be a table such as { max = 10, rps = 100 }",
    ("service", "NAME", "scale", "queue"): 'must be STORE:QUEUE such as "cache:default"',
    ("edge", "rate_limit"): 'must be a rate such as "100/s", a table { rate, path, … } or a list',
    ("edge", "rate_limit", "method"): 'must be a method such as "POST"',
    ("edge", "rate_limit", "key"): 'must be "address", "header:NAME" or "cookie:NAME"',
    ("service", "NAME", "image"): 'must be an image such as "ghcr.io/me/web:1"',
    ("job", "NAME", "image"): 'must be an image such as "ghcr.io/me/web:1"',
    ("registries", "NAME", "password"): 'must be the name of a secret such as "GHCR_TOKEN"',
    ("edge", "image"): 'must be an image such as "haproxy:2.8"',
    ("service", "NAME", "user"): 'must be a user such as "1000:1000"',
    ("job", "NAME", "user"): 'must be a user such as "1000:1000"',
    ("edge", "cors", "origins"): 'must be an origin such as "https://app.example.com" or a list',
    ("gapless",): "must be 1, the only version of the file format",
    ("drill", "get"): 'must be a list of paths such as ["/health"]',
    ("drill", "post"): 'must be a list of paths such as ["/echo"]',
}
"""What a key must be, where that says more than its type."""
_NAME_FORM = "must be lower-case letters, digits and hyphens, starting with a letter"
_VARIABLE_FORM = "must be letters, digits, underscores, dots and hyphens, not starting with a digit"
_ENV_FORM = "must be letters, digits and underscores, not starting with a digit"
_DEFAULTS_MISLEAD = (
    frozenset({"run", "port", "env", "image", "build", "allow", "login"}) | scale.TARGETS
)
"""Without these a table looks like another kind: what it then lacks is not its fault."""
_TYPES: dict[str, str] = {
    "string_type": "must be a string",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "tuple_type": "must be a list",
    "none_required": "must be absent",
}

Location = tuple[int | str, ...]


def validate(layered: overlays.Layered, report: Report) -> Stack | None:
    """The stack, or None with every fault added to the report.

    Misspelt keys get the name that was meant in ``layered``, so that those who look at it next
    do not stumble over the same fault.
    """
    _field_names(layered, report)
    _version(layered, report)
    tree = overlays.copy(layered.tree)
    taken: set[Path] = set()
    for number in range(PASSES):
        try:
            found = Stack.model_validate(_frozen(tree), strict=True)
        except pydantic.ValidationError as error:
            faults = list(_faults(error, tree))
            _add(faults, report, taken)
            if not _mend(tree, faults, taken, layered):
                break
        else:
            return found if number == 0 and not report.problems else None
    return None


class _Fault:
    """All that was found at one path of the tree (each form of a union complains for itself)."""

    def __init__(self, path: Path, value: Any) -> None:
        self.path = path
        self.value = value
        self.errors: list[Any] = []

    @property
    def kind(self) -> str:
        return str(self.errors[0]["type"])

    @property
    def table(self) -> bool:
        """Whether it speaks of a table as a whole: a pair of keys that contradict each other."""
        return self.kind == "value_error" and isinstance(self.value, dict)


def _faults(error: pydantic.ValidationError, tree: Tree) -> Iterator[_Fault]:
    by_path: dict[Path, _Fault] = {}
    for item in error.errors(include_url=False):
        path = _path(item["loc"], tree, missing=item["type"] == "missing")
        fault = by_path.setdefault(path, _Fault(path, _value(tree, path)))
        fault.errors.append(item)
    yield from by_path.values()


def _path(location: Location, tree: Tree, *, missing: bool) -> Path:
    """The part of a location that exists in the file: the model also names forms of unions."""
    path: Path = ()
    value: Any = tree
    for key in location:
        if isinstance(key, int) and isinstance(value, dict):
            continue  # one where a list of them could be
        inside = (isinstance(value, dict) and key in value) or (
            isinstance(value, list) and isinstance(key, int) and key < len(value)
        )
        if not inside:
            break
        value = value[key]
        path = (*path, key)
    if missing:
        return (*path, location[-1])
    return path


def _add(faults: list[_Fault], report: Report, taken: set[Path]) -> None:
    for fault in faults:
        if fault.kind == "missing":
            if fault.path not in taken:
                nested = bool(split(fault.path[:-1])[1])
                report.add(fault.path[:-1], f'key "{fault.path[-1]}" is missing', key=nested)
        elif fault.kind == "extra_forbidden":
            report.add(fault.path, unknown.key(fault.path)[0], key=False)
        elif not fault.path:
            # The whole: `checks` says the same with places.
            continue
        elif fault.table:
            _add_table(fault, report, taken)
        else:
            report.add(fault.path, _message(fault))


def _add_table(fault: _Fault, report: Report, taken: set[Path]) -> None:
    if any((*fault.path, key) in taken for key in _DEFAULTS_MISLEAD):
        return
    for message in str(fault.errors[0]["ctx"]["error"]).split("; "):
        words = re.findall(r"[a-z_]+", message)
        about = next((word for word in words if word in fault.value), None)
        if about is None:
            report.add(fault.path, message)
        else:
            line = report.layered.origin((*fault.path, about))
            report.add((*fault.path, about) if line else fault.path, message, key=False)


def _message(fault: _Fault) -> str:
    if later := unknown.value(fault.path, fault.value):
        return later
    if "[key]" in fault.errors[0]["loc"]:
        form = _ENV_FORM if fault.path[0] == "env" else _NAME_FORM
        form = _VARIABLE_FORM if "env" in fault.path[2:3] else form
        return f'"{fault.path[-1]}" is not a valid name: {form}'
    inside = tuple(key for key in fault.path[:-1] if isinstance(key, str))
    form = FORMS.get(unknown.general((*inside, *fault.path[-1:])), "")
    if form and fault.kind not in ("value_error", "string_too_long"):
        return f"{form}, got {show(fault.value)}"
    said = [_say(error, fault) for error in fault.errors]
    if fault.kind == "value_error":
        return said[0]
    choices = list(dict.fromkeys(text for text in said if text != _TYPES["none_required"]))
    text = " or ".join([choices[0], *(choice.removeprefix("must be ") for choice in choices[1:])])
    text += f", got {show(fault.value)}"
    return text + _suggestion(fault)


def _suggestion(fault: _Fault) -> str:
    expected = [e["ctx"]["expected"] for e in fault.errors if e["type"] == "literal_error"]
    words = re.findall(r"'([^']*)'", " ".join(expected))
    meant = unknown.closest(fault.value, words) if isinstance(fault.value, str) else None
    return f'; did you mean "{meant}"?' if meant else ""


def _say(error: Any, fault: _Fault) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind in _TYPES:
        return _TYPES[kind]
    said: dict[str, Callable[[], str]] = {
        "value_error": lambda: str(context["error"]),
        "greater_than_equal": lambda: f"must be at least {context['ge']}",
        "less_than_equal": lambda: f"must be at most {context['le']}",
        "greater_than": lambda: f"must be more than {context['gt']:g}",
        "string_too_long": lambda: f"must be at most {context['max_length']} characters long",
        "literal_error": lambda: "must be " + context["expected"].replace("'", '"'),
        "string_pattern_mismatch": lambda: _ENV_FORM if "secrets" in fault.path else _NAME_FORM,
    }
    if kind in said:
        return said[kind]()
    return f"is not valid ({error['msg']})"


def _mend(tree: Tree, faults: list[_Fault], taken: set[Path], layered: overlays.Layered) -> bool:
    """Take the faulty keys out, or give them the name that was meant; False: nothing changed."""
    changed = False
    for fault in sorted(faults, key=lambda fault: len(fault.path), reverse=True):
        if not fault.path or fault.kind == "missing" or fault.table:
            continue
        path = fault.path
        while isinstance(path[-1], int):
            path = path[:-1]
        holder = _value(tree, path[:-1])
        if not isinstance(holder, dict) or path[-1] not in holder:
            continue
        value = holder.pop(path[-1])
        taken.add(path)
        changed = True
        if fault.kind == "extra_forbidden":
            meant = unknown.key(path)[1]
            if meant is not None and layered.rename(path, meant):
                holder[meant] = value
    return changed


def _field_names(layered: overlays.Layered, report: Report) -> None:
    # The model takes its fields also by their Python names; the file has one name for a thing.
    for field, key in (("services", "service"), ("jobs", "job"), ("overlay", None)):
        if field in layered.tree:
            hint = f'; did you mean "{key}"?' if key else ""
            report.add((field,), f'unknown key "{field}"{hint}', key=False)
            if key:
                layered.rename((field,), key)
            layered.tree.pop(field, None)


def _version(layered: overlays.Layered, report: Report) -> None:
    # To the model, as to Python, 1 and true and 1.0 are equal.
    version = layered.tree.get("gapless", 1)
    if version == 1 and type(version) is not int:
        report.add(("gapless",), f"{FORMS[('gapless',)]}, got {show(version)}")


def _value(tree: Tree, path: Path) -> Any:
    value: Any = tree
    for key in path:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _frozen(below) for key, below in value.items()}
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
