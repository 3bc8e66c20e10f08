"""What the environment says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Settings:
    """Read once, passed around. The URLs carry passwords and stay out of ``repr``."""

    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    server_id: str = "chat.1"
    release: str = "0"
    pool: int = 5
    """Connections to Postgres of one replica. With 3 replicas, 3 more while a deploy runs and
    the workers this stays below the 100 that a server allows out of the box."""

    @classmethod
    def of(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Raises SystemExit, naming the variable, when one that has no default is missing."""
        missing = [name for name in ("DATABASE_URL", "REDIS_URL") if not environ.get(name)]
        if missing:
            raise SystemExit(f"chat: {' and '.join(missing)} must be set")
        return cls(
            environ["DATABASE_URL"],
            environ["REDIS_URL"],
            environ.get("SERVER_ID", "chat.1"),
            environ.get("RELEASE", "0"),
            int(environ.get("DATABASE_POOL", "5")),
        )
