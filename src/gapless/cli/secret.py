"""``secret``: values go in by prompt or standard input, never as arguments, and never come out."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from gapless import errors
from gapless.cli import out
from gapless.cli.session import Session

if TYPE_CHECKING:
    from gapless.engine.secrets import Secrets

TAKES_EFFECT = "programs get it when they start next: gapless restart"


@click.group("secret")
def secret() -> None:
    """Values of secrets: kept in an owner-only file, given to the programs that ask for them."""


@secret.command("set")
@click.argument("name")
@click.pass_obj
def set_(session: Session, name: str) -> int:
    """Keep a value, from a prompt or from standard input (one line break at its end is cut)."""
    from gapless.engine import secrets

    store = _open(session, name)
    value = _value(name, secrets.SIZE_LIMIT)
    before = store.get(name)
    store.set(name, value)
    did = "set" if before is None else "unchanged" if before == value else "replaced"
    return _done(session, name, did)


@secret.command()
@click.argument("name")
@click.option("--length", type=int, default=32, show_default=True, help="Characters.")
@click.pass_obj
def generate(session: Session, name: str, length: int) -> int:
    """Keep a new random value (letters and digits) under a name that has none."""
    _open(session, name).generate(name, length)
    return _done(session, name, "generated")


@secret.command()
@click.argument("name")
@click.pass_obj
def rotate(session: Session, name: str) -> int:
    """Replace a value by a new random one."""
    store = _open(session, name)
    if store.about(name) is not None:
        out.ask(f"Replace the value of {name}? The old one is lost.", yes=session.yes)
    store.rotate(name)
    return _done(session, name, "rotated")


@secret.command("list")
@click.pass_obj
def list_(session: Session) -> int:
    """Names, where their values come from and how old they are; never a value."""
    rows = _rows(session)
    if session.json:
        out.as_json({"secrets": rows})
    elif not rows:
        out.progress("no secrets: none are declared, none are kept")
    else:
        cells = [(r["name"], r["source"], _age(r["changed_at"]), r["note"]) for r in rows]
        out.show_table(("NAME", "SOURCE", "CHANGED", "NOTE"), cells)
    return 0


@secret.command()
@click.argument("name")
@click.pass_obj
def rm(session: Session, name: str) -> int:
    """Forget a value."""
    store = _open(session, name)
    if store.about(name) is not None:
        out.ask(f"Forget the value of {name}?", yes=session.yes)
    store.remove(name)
    return _done(session, name, "removed")


COMMAND = secret


def _open(session: Session, name: str) -> Secrets:
    """The store, once it is sure that the name is the user's to change."""
    from gapless.engine import secrets

    secrets.check_name(name)
    if "." in name:
        raise errors.UsageError(
            f"secret {name}: belongs to gapless", hint="names of yours have no dot in them"
        )
    return secrets.Secrets(session.paths)


def _value(name: str, limit: int) -> str:
    if sys.stdin.isatty():
        given: str = click.prompt(name, hide_input=True, confirmation_prompt=True, err=True)
        return given
    # A little more than is allowed is enough to see that it is too long.
    raw = sys.stdin.buffer.read(limit + 3)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise errors.UsageError(f"secret {name}: the value is not UTF-8 text") from None
    return text.removesuffix("\n").removesuffix("\r")


def _rows(session: Session) -> list[dict[str, Any]]:
    from gapless.engine import secrets

    store, declared = secrets.Secrets(session.paths), session.declared
    rows = []
    for name in sorted({*declared, *store.names()}):
        held = store.about(name)
        note = "" if name in declared else "not declared in the file"
        rows.append(
            {
                "name": name,
                "source": "missing" if held is None else held.source,
                "changed_at": None if held is None else held.changed_at,
                "declared": name in declared,
                "note": note,
            }
        )
    return rows


def _age(changed_at: float | None) -> str:
    if changed_at is None:
        return "-"
    seconds = max(0.0, time.time() - changed_at)
    for size, letter in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{letter} ago"
    return f"{int(seconds)}s ago"


def _done(session: Session, name: str, did: str) -> int:
    if session.json:
        out.as_json({"name": name, "done": did})
        return 0
    out.data(f"{name}: {did}")
    if did not in ("unchanged", "removed"):
        out.progress(TAKES_EFFECT)
    if did != "removed" and name not in session.declared:
        out.progress(f'note: {session.file.name} does not declare it; add secrets = ["{name}"]')
    return 0
