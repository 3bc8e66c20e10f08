"""What the engine asks of a load balancer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gapless import errors, observed
from gapless.edge.config import Config
from gapless.model.desired import Hold
from gapless.model.process import Address, Process


class Unfit(errors.EdgeRefused):
    """A certificate that the edge does not take, whenever it is asked."""


@dataclass(frozen=True, slots=True)
class Member:
    """A replica as the edge should know it. ``cookie``: random token of the generation, or None."""

    name: str
    backend: str
    address: Address
    cookie: str | None = None


@dataclass(frozen=True, slots=True)
class Counters:
    """What passed through since the edge started (summed over its present workers).

    ``failed``: requests that clients saw fail at the edge (5xx that the edge or a server
    answered, refused and cut connections to servers after retries). ``nobody_left``: how often a
    request found no replica, and waited for one or was refused: some do twice.
    """

    requests: int
    failed: int
    responses_5xx: int
    sessions: int
    nobody_left: int = 0


@dataclass(frozen=True, slots=True)
class Heir:
    """Who takes over from the edge that serves, as soon as it is started.

    ``serves`` returns once it does, and the one before passes on what still comes to it; raises
    EdgeRefused when that takes too long.
    """

    process: Process
    serves: Callable[[], Awaitable[None]]


class Edge(Protocol):
    """Every method is idempotent; raises EdgeRefused with command and answer when refused."""

    async def process(
        self, config: Config, members: tuple[Member, ...] = (), giver: Path | None = None
    ) -> Process:
        """The program to start for this configuration; the file is written and checked first.

        ``members`` are in rotation at once: those that served when the one before it died.
        ``giver``: the control socket of another HAProxy, whose listening sockets it takes over
        where it is to have the same address.
        """

    def program(self, wanted: str | None) -> str:
        """What would be started now: another program, another text. ``wanted``: as the file says.

        Raises nothing: "" where there is none to be found.
        """

    def let_go(self) -> None:
        """It is to stop for good: what is held so that nothing is refused while it is dead."""

    async def look(self) -> observed.Edge:
        """State, servers with in-flight work on old workers too. Dead or absent: says so."""

    async def enter(self, member: Member) -> None:
        """Into rotation; returns when the edge acknowledges it up. Out before: back in."""

    async def leave(self, backend: str, name: str) -> None:
        """No new work from now on, cookie holders included; acknowledged on return."""

    async def awaits(self, begin: Collection[str], end: Collection[str]) -> None:
        """While a backend has nobody left its requests wait; those of ``end`` do no more.

        Who has entered is awaited without that.
        """

    async def sockets(self) -> Mapping[str, int]:
        """WebSockets and other tunnels by server name, on old workers too; without any: absent.

        Costs the edge about 10 ms for each thousand of connections: not for every look.
        """

    async def shut(self, counts: Mapping[str, int]) -> Mapping[str, int]:
        """End so many tunnels of each server, drawn at random; what ``sockets`` then says.

        Requests go on. Fewer than asked for are ended where there are no more.
        """

    async def remove(self, backend: str, name: str) -> bool:
        """Delete the server; False while connections are attached (ask again). Unknown: True."""

    async def flip(self, enter: tuple[Member, ...], leave: tuple[tuple[str, str], ...]) -> None:
        """Swap members in one exchange with the edge (atomic switch).

        Raises EdgeRefused when one does not come up: then those that left are in again.
        """

    async def maintenance(self, on: bool) -> None:
        """503 + Retry-After + page for all but the allowed addresses."""

    async def hold(self, wanted: Hold | None) -> None:
        """Requests wait until then at most, whatever becomes of us; None: all may go."""

    async def serve(self, digest: str) -> None:
        """What the server of files serves is of that digest, and may be kept in memory as such.

        "": it is not known, and nothing is kept. Only for an edge that publishes folders.
        """

    async def reload(
        self, config: Config, members: tuple[Member, ...], giver: Path | None = None
    ) -> None:
        """Another configuration without a failed request; members keep their state.

        ``giver``: as of ``process``. For what runs in the form (``observed.EdgeForm``) that this
        configuration asks for.
        """

    async def heir(self, config: Config, members: tuple[Member, ...]) -> Heir:
        """The same where it does not: another program beside the one that serves."""

    async def certificates(self) -> Mapping[str, int]:
        """Serial numbers of what new connections are shown, by name; without TLS: none."""

    async def certify(self, name: str, pem: str) -> None:
        """Another certificate (leaf, chain, key) under that name, without a reload.

        It is gone with the process: whoever asks also writes the file. Raises Unfit when it is
        not taken, EdgeRefused when nobody hears; then the one before stays.
        """

    async def challenges(self, answers: Mapping[str, str]) -> None:
        """Answer an ACME authority's questions with these texts, by path, and no others."""

    async def counters(self) -> Mapping[str, Counters]:
        """By backend, and ``""`` for the public frontend."""
