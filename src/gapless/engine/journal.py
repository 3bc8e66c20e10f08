"""What happened, when, by whom and why. It explains; nothing is ever decided by it."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

from gapless.errors import Damaged, EnvironmentFault

_SCHEMA = """
CREATE TABLE IF NOT EXISTS event (
  id INTEGER PRIMARY KEY,
  at REAL NOT NULL,
  actor TEXT NOT NULL,
  what TEXT NOT NULL,
  cause TEXT NOT NULL,
  outcome TEXT NOT NULL
)
"""
KEPT = 100_000
"""Events kept; older ones are dropped."""


class Journal:
    """SQLite in WAL mode, one writer. Times are unix seconds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._db = _open(path)
        except sqlite3.DatabaseError as error:
            # What cannot be read explains nothing, and must not keep a stack from running.
            if isinstance(error, sqlite3.OperationalError) or not _put_aside(path):
                raise _fault(path, error) from None
            try:
                self._db = _open(path)
            except sqlite3.Error as again:
                raise _fault(path, again) from None
            self.add("the journal was damaged: it begins anew, the old one is beside it")

    def add(
        self,
        what: str,
        *,
        cause: str = "",
        outcome: str = "done",
        actor: str = "controller",
    ) -> None:
        """Write one event. A full disk loses the explanation, never the work: it is skipped."""
        try:
            self._db.execute(
                "INSERT INTO event (at, actor, what, cause, outcome) VALUES (?, ?, ?, ?, ?)",
                (time.time(), actor, what, cause, outcome),
            )
        except sqlite3.Error:
            return

    def tail(self, limit: int) -> list[dict[str, Any]]:
        """The newest ``limit`` events, oldest first. Raises Damaged."""
        try:
            rows = self._db.execute(
                "SELECT at, actor, what, cause, outcome FROM event ORDER BY id DESC LIMIT ?",
                (limit,),
            ).fetchall()
        except sqlite3.Error as error:
            raise Damaged(
                f"{self.path}: the journal cannot be read: {error}",
                hint="gapless up -d after the controller's end begins a new one",
            ) from None
        names = ("at", "actor", "what", "cause", "outcome")
        return [dict(zip(names, row, strict=True)) for row in reversed(rows)]

    def trim(self) -> None:
        """Drop what is older than the newest ``KEPT`` events."""
        try:
            self._db.execute(
                "DELETE FROM event WHERE id <= (SELECT max(id) FROM event) - ?", (KEPT,)
            )
        except sqlite3.Error:
            return

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute(_SCHEMA)
        db.execute("SELECT at, actor, what, cause, outcome FROM event LIMIT 1")
        path.chmod(0o600)
    except BaseException:
        db.close()
        raise
    return db


def _put_aside(path: Path) -> bool:
    """Out of the way, with what belongs to it. False when that cannot be done."""
    try:
        path.replace(path.with_name(f"{path.name}.damaged"))
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _fault(path: Path, error: sqlite3.Error) -> EnvironmentFault:
    return EnvironmentFault(
        f"{path}: the journal cannot be opened: {error}",
        hint="move it away: it only explains the past",
    )
