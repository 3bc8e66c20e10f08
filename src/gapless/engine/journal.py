"""What happened, when, by whom and why. It explains; nothing is ever decided by it."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gapless.errors import EnvironmentFault

_SCHEMA = """
CREATE TABLE IF NOT EXISTS event (
  id INTEGER PRIMARY KEY,
  at REAL NOT NULL,
  actor TEXT NOT NULL,
  what TEXT NOT NULL,
  cause TEXT NOT NULL,
  outcome TEXT NOT NULL,
  detail TEXT NOT NULL
)
"""
KEPT = 100_000
"""Events kept; older ones are dropped."""


class Journal:
    """SQLite in WAL mode, one writer. Times are unix seconds."""

    def __init__(self, path: Path) -> None:
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute(_SCHEMA)
            path.chmod(0o600)
        except sqlite3.Error as error:
            raise EnvironmentFault(
                f"{path}: the journal cannot be opened: {error}",
                hint="move it away: it only explains the past",
            ) from None

    def add(
        self,
        what: str,
        *,
        cause: str = "",
        outcome: str = "done",
        actor: str = "controller",
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """Write one event. A full disk loses the explanation, never the work: it is skipped."""
        try:
            self._db.execute(
                "INSERT INTO event (at, actor, what, cause, outcome, detail)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (time.time(), actor, what, cause, outcome, json.dumps(detail or {})),
            )
        except sqlite3.Error:
            return

    def tail(self, limit: int) -> list[dict[str, Any]]:
        """The newest ``limit`` events, oldest first."""
        rows = self._db.execute(
            "SELECT at, actor, what, cause, outcome, detail FROM event ORDER BY id DESC LIMIT ?",
            (limit,),
        ).fetchall()
        names = ("at", "actor", "what", "cause", "outcome")
        return [
            {**dict(zip(names, row[:5], strict=True)), "detail": json.loads(row[5])}
            for row in reversed(rows)
        ]

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
