"""Valkey's configuration text. Values in, text out."""

from __future__ import annotations

import re

from gapless.data import values
from gapless.errors import DataFault

Settings = values.Settings

SENTINEL = "gapless-end-of-check"
"""A directive that no server knows: a check that stops here has accepted all before it."""

_OURS = {
    "port": "[data.NAME] port",
    "bind": "it listens on the loopback interface",
    "protected-mode": "it listens on the loopback interface",
    "dir": "gapless keeps the place",
    "pidfile": "gapless watches the process",
    "daemonize": "gapless watches the process",
    "supervised": "gapless watches the process",
    "logfile": "gapless logs shows what it writes",
    "syslog-enabled": "gapless logs shows what it writes",
    "requirepass": "the password is generated",
    "masterauth": "the password is generated",
    "primaryauth": "the password is generated",
    "user": "the password is generated",
    "aclfile": "the password is generated",
    "unixsocket": "services use the port",
    "unixsocketperm": "services use the port",
    "include": "settings stand in the stack file",
    "rename-command": "gapless needs the commands by their names",
    "appenddirname": "gapless keeps the place",
    "appendfilename": "gapless keeps the place",
    "dbfilename": "gapless keeps the place",
}
_NAME = re.compile(r"[a-z][a-z0-9-]*")

_DEFAULTS: Settings = {
    "daemonize": False,
    "protected-mode": True,
    "appendonly": True,
    "appendfsync": "everysec",
    "maxmemory-policy": "noeviction",
}


def check_settings(name: str, settings: Settings) -> None:
    """Raise DataFault for what may not be set."""
    for key, value in settings.items():
        place = f"{name}: settings.{key}"
        if not _NAME.fullmatch(key):
            raise DataFault(f"{place}: not the name of a Redis setting")
        if (reason := _OURS.get(key)) is not None:
            raise DataFault(f"{place}: not yours to set ({reason})")
        values.check(place, value)


def literal(value: values.Value) -> str:
    """A value as the server spells it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def quoted(value: values.Value) -> str:
    """A value in double quotes: nothing in it can end the line or the string."""
    text = literal(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def configuration(settings: Settings, *, folder: str, password: str) -> str:
    """The whole file; it holds the password. Call ``check_settings`` before."""
    lines = ["# Written by gapless; changes here are lost."]
    lines += [f"dir {quoted(folder)}", f"requirepass {quoted(password)}"]
    lines += [f"{key} {quoted(value)}" for key, value in {**_DEFAULTS, **settings}.items()]
    return "\n".join(lines) + "\n"


def complaint(output: str) -> str:
    """What the server refuses, "" when it read everything up to the sentinel."""
    found = re.search(r"FATAL CONFIG FILE ERROR.*?\n.*?\n>>> '(.*?)'\n(.*)", output)
    if found is None:
        return output.strip()[-400:] or "the server did not read its configuration"
    line, reason = found[1], found[2].strip()
    if line.startswith(SENTINEL):
        return ""
    name = line.split(" ")[0]
    return f"{name}: {reason}"
