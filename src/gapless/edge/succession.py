"""How listening sockets pass from one program of the edge to the next: to one that starts, to one
that takes over from the living, and to the next worker.

``run`` is where they are asked for and given. Raises EdgeRefused where nothing can be given, and
what ``programs.Programs.listen`` does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from gapless import observed
from gapless.edge import config as conf
from gapless.edge import keeper, lowports, programs, talk


def form(config: conf.Config) -> observed.EdgeForm:
    """What of it no reload brings about."""
    if not config.image:
        return observed.EdgeForm()
    first = lowports.first()
    low = (one for one in config.addresses if int(one.rpartition(":")[2]) < first)
    return observed.EdgeForm(config.image, frozenset(low))


def inherits(
    config: conf.Config,
    source: programs.Programs,
    run: Path,
    kept: tuple[keeper.Kept, ...],
    giver: Path | None,
) -> tuple[str, ...]:
    """Arguments for one that starts, given what is ``kept`` and what ``giver`` (an HAProxy's
    socket) has; the addresses that nobody gives it are free."""
    more = () if giver is None else keeper.given(giver, _missing(config, kept))
    place = run / conf.HEIR_SOCKET
    try:
        more += source.listen(_missing(config, [*kept, *more]))
        offered = keeper.offer(place, [*kept, *more], config.reader)
    finally:
        keeper.close(more)
    return ("-x", str(place)) if offered else ()


def takes_over(
    config: conf.Config, source: programs.Programs, run: Path, elder: int
) -> tuple[str, ...]:
    """Arguments for one beside the living: it is given its sockets, and tells it to go once it
    listens itself. The elder (its master's pid) is heard of by another name of its socket."""
    with contextlib.suppress(FileExistsError):
        (run / conf.ELDERS.format(elder)).hardlink_to(run / conf.MASTER_SOCKET)
    try:
        own = keeper.ask(run / conf.STATS_SOCKET, keeper.lasting)
    except (OSError, ValueError) as error:
        raise talk.refused("_getsocks", str(error)) from None
    place = run / conf.HEIR_SOCKET
    try:
        own += source.listen(_missing(config, own))
        if not keeper.offer(place, own, config.reader):
            raise talk.refused("-x", f"nothing can be given at {place}")
    finally:
        keeper.close(own)
    return "-x", str(place), "-sf", str(elder)


def taken(config: conf.Config, run: Path, giver: Path) -> tuple[keeper.Kept, ...]:
    """What another has of the addresses that the present worker lacks, for the next one."""
    own = keeper.given(run / conf.STATS_SOCKET, config.addresses)
    try:
        return keeper.given(giver, _missing(config, own))
    finally:
        keeper.close(own)


def _missing(config: conf.Config, kept: Sequence[keeper.Kept]) -> tuple[str, ...]:
    """The addresses of a configuration that none of these sockets listens at."""
    return tuple(address for address in config.addresses if not keeper.at(kept, address))
