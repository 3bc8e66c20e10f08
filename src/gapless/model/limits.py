"""How much of the edge one client may ask for."""

from __future__ import annotations

import math
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from gapless.model import units
from gapless.model.answers import Network
from gapless.model.units import Model, UrlPath

LONGEST = 86_400.0
"""Seconds in which a burst must be allowed again."""
MOST = 1_000_000
_PER = {"s": 1.0, "m": 60.0, "h": 3600.0}


def _rate(value: Any) -> Any:
    units.parse_rate(value)
    return value


RateText = Annotated[
    str,
    BeforeValidator(_rate, json_schema_input_type=Annotated[str, Field(pattern=units.RATE_FORM)]),
]
METHOD = r"^[A-Z]{3,12}$"
KEY = r"^(address|header:[A-Za-z0-9-]{1,64}|cookie:[A-Za-z0-9_-]{1,64})$"


class RateLimit(Model):
    """A client that asks for more gets 429 and Retry-After; the others do not notice."""

    rate: RateText
    """So many requests in each second, minute or hour."""
    burst: Annotated[int, Field(ge=1, le=MOST)] | None = None
    """So many may come at once, at the same rate in the long run; absent: as the rate says."""
    path: UrlPath = "/"
    """Requests for this path and below it; in whichever way it is spelt."""
    method: Annotated[str, Field(pattern=METHOD)] | None = None
    """Requests by this method alone; absent: by any."""
    key: Annotated[str, Field(pattern=KEY)] = "address"
    """What tells clients apart: "address" (of IPv6 the first 64 bits), "header:NAME" or
    "cookie:NAME" (who sends none counts by address)."""
    allow: tuple[Network, ...] = ()
    """Addresses or networks without this limit."""

    @property
    def per_second(self) -> float:
        """In the long run."""
        number, _, unit = self.rate.partition("/")
        return float(number) / _PER[unit]

    @property
    def count(self) -> int:
        """So many requests in each ``window``."""
        return self.burst or max(1, math.floor(float(self.rate.partition("/")[0])))

    @property
    def window(self) -> float:
        """In seconds."""
        return self.count / self.per_second

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.count > MOST:
            raise ValueError(f"rate is more than {MOST:,}: such a limit protects nothing")
        if self.window > LONGEST:
            raise ValueError("burst at this rate would take more than a day to be allowed again")
        return self


def many(value: Any) -> Any:
    """One limit or a list of them, each a rate or a table, as a list of tables."""
    items = value if isinstance(value, list | tuple) else (value,)
    return tuple({"rate": item} if isinstance(item, str) else item for item in items)


_One = RateText | RateLimit
RateLimits = Annotated[
    tuple[RateLimit, ...],
    BeforeValidator(many, json_schema_input_type=_One | Annotated[list[_One], Field(max_length=8)]),
    Field(max_length=8),
]
