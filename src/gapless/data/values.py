"""Values of a store's settings, as far as all servers agree. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

from gapless.errors import DataFault

Value = str | int | float | bool
Settings = Mapping[str, Value]


def check(place: str, value: Value) -> None:
    """Raise DataFault for a value that cannot be written on one line, or is no number."""
    if isinstance(value, str) and any(ord(c) < 32 or ord(c) == 127 for c in value):
        raise DataFault(f"{place}: must not contain control characters or line breaks")
    if isinstance(value, float) and not math.isfinite(value):
        raise DataFault(f"{place}: must be a finite number, got {value}")
