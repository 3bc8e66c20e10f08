"""What a command comes with: the body of its request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Body = Mapping[str, Any]


def actor(body: Body) -> str:
    """Who asks, for the journal."""
    return str(body.get("actor") or "operator")
