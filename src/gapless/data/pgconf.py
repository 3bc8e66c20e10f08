"""PostgreSQL's texts: configuration, access rules, first SQL. Values in, text out."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

from gapless.data import values
from gapless.errors import DataFault

Settings = values.Settings

ADMIN = "postgres"
"""The superuser. It enters through the owner-only socket and never over TCP."""
USER = "app"
"""The role that services use: owner of its database, and nothing more."""
DATABASE = "app"

_OURS = {
    "port": "[data.NAME] port",
    "listen_addresses": "it listens on the loopback interface",
    "data_directory": "gapless keeps the place",
    "config_file": "gapless writes it",
    "hba_file": "gapless writes it",
    "ident_file": "gapless writes it",
    "external_pid_file": "gapless watches the process",
    "unix_socket_directories": "gapless keeps the place",
    "unix_socket_group": "the socket is the owner's alone",
    "unix_socket_permissions": "the socket is the owner's alone",
    "logging_collector": "gapless logs shows what it writes",
    "log_destination": "gapless logs shows what it writes",
    "password_encryption": "it is scram-sha-256",
}
_DIRECTIVES = frozenset({"include", "include_if_exists", "include_dir"})
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?")

_DEFAULTS: Settings = {
    "unix_socket_permissions": "0700",
    "password_encryption": "scram-sha-256",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "log_checkpoints": False,
    "wal_level": "replica",
}

_HBA = f"""\
# Written by gapless. The socket's directory is closed to everybody but its owner.
local all         {ADMIN}                 trust
local replication {ADMIN}                 trust
host  all         {ADMIN} all             reject
local all         all                      scram-sha-256
host  all         all      127.0.0.1/32    scram-sha-256
host  all         all      ::1/128         scram-sha-256
"""


def hba(network: str | None = None, barred: str = "") -> str:
    """Who may come in; ``network``: one (``172.18.0.0/16``) beside this machine, ``barred``: an
    address in it that may not."""
    if network is not None and barred:
        shut = f"host  all         all      {barred}/32 reject\n"
        return f"{_HBA}{shut}{hba(network).removeprefix(_HBA)}"
    more = "" if network is None else f"host  all         all      {network:<15} scram-sha-256\n"
    return _HBA + more


def check_settings(name: str, settings: Settings) -> None:
    """Raise DataFault for what may not be set, or cannot be written on one line."""
    for key, value in settings.items():
        place = f"{name}: settings.{key}"
        if not _NAME.fullmatch(key) or key.lower() in _DIRECTIVES:
            raise DataFault(f"{place}: not the name of a PostgreSQL setting")
        if (reason := _OURS.get(key.lower())) is not None:
            raise DataFault(f"{place}: not yours to set ({reason})")
        values.check(place, value)


def literal(value: values.Value) -> str:
    """A value as the configuration file and ``pg_settings`` spell it, without quotes."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


def quoted(value: values.Value) -> str:
    """A value in the quotes of postgresql.conf: nothing in it can end the line or the string."""
    text = literal(value).replace("\\", "\\\\").replace("'", "''")
    return f"'{text}'"


def configuration(settings: Settings, *, generated: str | None) -> str:
    """The whole file. ``generated``: initdb's own, which comes first. No place stands in it.

    Call ``check_settings`` before.
    """
    lines = ["# Written by gapless; changes here are lost."]
    lines += [f"include {quoted(generated)}"] if generated else []
    lines += [f"{key} = {quoted(value)}" for key, value in _DEFAULTS.items()]
    lines += [f"{key} = {quoted(value)}" for key, value in sorted(settings.items())]
    return "\n".join(lines) + "\n"


def complaints(output: str) -> str:
    """What PostgreSQL says is wrong, without time stamps and file names."""
    found = re.findall(r"(?:LOG|ERROR|FATAL|PANIC|initdb: error|error):\s+(.*)", output)
    said = [
        re.sub(r' in file "[^"]*" line \d+', "", line).strip()
        for line in found
        if "contains errors" not in line
    ]
    return "; ".join(dict.fromkeys(said)) or output.strip()[-400:]


def verifier(password: str, salt: bytes) -> str:
    """What the server keeps of a password (RFC 5802), so that it never sees the password."""
    rounds = 4096
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds)
    client = hmac.digest(salted, b"Client Key", "sha256")
    server = hmac.digest(salted, b"Server Key", "sha256")
    stored = hashlib.sha256(client).digest()
    spell = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${rounds}:{spell[0]}${spell[1]}:{spell[2]}"


def first_sql(secret: str) -> str:
    """Role and database, one statement a line. ``secret`` comes from ``verifier``."""
    return (
        f"CREATE ROLE {USER} LOGIN PASSWORD '{secret}';\n"
        f"CREATE DATABASE {DATABASE} OWNER {USER};\n"
        f"REVOKE ALL ON DATABASE {DATABASE} FROM PUBLIC;\n"
    )


def new_secret_sql(secret: str) -> str:
    """Gives the role another password. ``secret`` comes from ``verifier``."""
    return f"ALTER ROLE {USER} PASSWORD '{secret}'"
