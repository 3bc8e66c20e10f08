"""An address that passes between a stack's own edge and the front, by a deploy and under load."""

from __future__ import annotations

import pytest
from tests.edge.stand import until
from tests.real.sharing import Stack, Visitors, sharing

from gapless.core.world import World
from gapless.drills import ports
from gapless.engine import claims


async def test_nobody_is_refused_when_sharing_begins_and_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the first stack that shares, and the last: the front comes, and goes. By TLS."""
    async with sharing(monkeypatch, "alpha", tls=True, shared=False) as (alpha,):
        async with Visitors(alpha, clients=6) as visitors:
            await visitors.more()
            alpha.share()
            await alpha.do("deploy", wait=True)
            await until(lambda: _alone(alpha, "front"), "the front alone has the address")
            await visitors.more()
            alpha.share(more="")
            await alpha.do("deploy", wait=True)
            await until(lambda: _alone(alpha, "edge"), "the edge alone has the address", 90.0)
            await visitors.more()
        assert visitors.failed == {}
        assert claims.Claims(alpha.front.paths.state).all() == ()
        assert alpha.front._program() is None


async def _alone(stack: Stack, which: str) -> bool:
    """Whether one of both has the stack's address, and the other has let go of it."""
    world = stack.controller.world
    if world is None or world.hands_over or not world.edge_ready:
        return False
    own = f"127.0.0.1:{stack.port}" in world.observed.edge.public
    return own == (which == "edge")


async def test_an_address_comes_to_a_front_that_runs_and_leaves_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The other stack stays on an address of its own, and feels nothing of it. Plain HTTP."""
    async with sharing(monkeypatch, "alpha", "beta") as (alpha, beta):
        alpha.port = ports.reserve()
        alpha.share(more="")
        await alpha.do("deploy", wait=True)
        assert await alpha.ask() == (200, "alpha")
        assert (await beta.ask("alpha.test"))[0] == 404
        front = beta.front_pid
        async with Visitors(alpha) as visitors, Visitors(beta) as others:
            await visitors.more()
            alpha.share()
            await alpha.do("deploy", wait=True)
            await until(lambda: _alone(alpha, "front"), "the front alone has the address")
            await visitors.more()
            alpha.share(more="")
            await alpha.do("deploy", wait=True)
            await until(lambda: _alone(alpha, "edge"), "the edge alone has the address", 90.0)
            await visitors.more()
            await others.more()
        assert (visitors.failed, others.failed) == ({}, {})
        assert beta.front_pid == front
        assert await beta.ask() == (200, "beta")


async def test_without_a_time_in_which_both_have_it_clients_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The planted fault: the edge lets go first, and the front begins after that."""
    monkeypatch.setattr(World, "hands_over", False)
    async with sharing(monkeypatch, "alpha", shared=False) as (alpha,):
        async with Visitors(alpha) as visitors:
            await visitors.more()
            alpha.share()
            await alpha.do("deploy", wait=True)
            await visitors.more()
        assert visitors.refused > 0
