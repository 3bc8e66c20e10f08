"""What a stack does about the front: names first, given up last, and whoever finds it dead."""

from __future__ import annotations

from dataclasses import replace

from gapless.core import balancer, front, plan, simulate
from gapless.core.reconcile import reconcile
from gapless.core.world import Claims, EdgeConfigs, World
from gapless.model.front import Claim
from gapless.observed import Front
from tests.core import worlds

CLAIM = Claim("chat", ("chat.test",), "/state/chat", http=("*:80",), socket="/run/chat/front.sock")
MORE = replace(CLAIM, hosts=("chat.test", "new.test"))
NEW = replace(CLAIM, hosts=("new.test",))


def sharing(world: World, claim: Claim | None = CLAIM) -> World:
    return replace(world, claims=Claims(claim, claim, claim, claim))


def standing() -> World:
    return worlds.run(sharing(worlds.fresh(worlds.stack())))


def seen(world: World, **values: object) -> World:
    found = replace(world.observed.front, **values)  # type: ignore[arg-type]
    return replace(world, observed=replace(world.observed, front=found))


def steps(world: World) -> list[str]:
    return [str(step.text) for step in reconcile(world).steps if isinstance(step, front.FrontStep)]


def order(world: World) -> list[plan.Step]:
    return list(simulate.unroll(world).steps)


def test_a_first_up_takes_its_names_before_anything_else() -> None:
    done = [step.text for step in order(sharing(worlds.fresh(worlds.stack())))]
    assert done[0] == "front take chat.test"
    assert done.index("front start") < done.index("web.1@r1 enter edge")


def test_at_rest_nothing_is_done() -> None:
    assert standing().observed.front == Front("running", claim=CLAIM, entered=True)
    assert reconcile(standing()).steps == ()


def test_whoever_finds_it_dead_starts_it() -> None:
    assert steps(seen(standing(), state="dead")) == ["front start"]
    assert steps(seen(standing(), state="starting")) == []


def test_what_it_lacks_it_is_told() -> None:
    assert steps(seen(standing(), entered=False)) == ["front take chat.test"]
    assert steps(seen(standing(), stale="its addresses change")) == ["front reload"]


def test_names_are_given_up_last_and_the_edge_answers_until_then() -> None:
    world = standing()
    down = replace(world, desired=replace(world.desired, running=False))
    done = [step.text for step in order(down)]
    assert steps(down) == []  # while its replicas serve what they have
    assert done.index("front leave") < done.index("edge stop")
    assert [text for text in done if text.startswith("front")] == ["front leave"]


def test_a_deploy_has_the_names_of_both_sides_until_it_is_committed() -> None:
    world = replace(standing(), claims=Claims(CLAIM, MORE, MORE, NEW))
    done = [step.text for step in order(worlds.deploying(world, worlds.stack()))]
    first, last = done.index("front take chat.test, new.test"), done.index("front take new.test")
    assert first < done.index("web.1@r2 enter edge") < last


def handing(world: World, wanted: str, now: str, *public: str) -> World:
    """Its edge as it is, and as it is to be; ``both`` while an address changes hands."""
    edge = replace(world.observed.edge, state="running", config=now, public=public)
    return replace(
        world,
        edge_configs=EdgeConfigs(wanted, wanted, wanted),
        handing_configs=EdgeConfigs("both", "both", "both"),
        observed=replace(world.observed, edge=edge),
    )


def acts(world: World) -> list[str]:
    """What is done about front and edge, in this order, until nothing is left to do."""
    found = []
    for step in order(world):
        match step:
            case balancer.ReloadEdge(config=config):
                found.append(f"edge: {config}")
            case front.FrontStep():
                found.append(step.text)
    return found


def test_an_edge_keeps_its_address_until_the_front_has_it_too() -> None:
    world = seen(standing(), claim=None, state="absent", entered=False)
    world = handing(world, "shared", "alone", "*:80")
    assert acts(world) == ["edge: both", "front take chat.test", "front start", "edge: shared"]
    # A front that dies just then changes nothing: the edge still has the address.
    both = handing(seen(standing(), state="dead"), "shared", "both", "127.0.0.1:9", "*:80")
    assert acts(both) == ["front start", "edge: shared"]
    # One that had another address for itself has nothing to hand over.
    other = handing(world, "shared", "alone", "*:8080")
    assert acts(other) == ["edge: shared", "front take chat.test", "front start"]


def test_the_front_keeps_an_address_until_the_edge_has_it_too() -> None:
    world = handing(sharing(standing(), None), "alone", "shared", "127.0.0.1:9")
    assert acts(world) == ["edge: both", "front withdraw", "front leave", "edge: alone"]
    # Who came through the front goes on there, and the edge stays behind it until they have gone.
    claim = replace(CLAIM, http=())
    both = handing(seen(world, claim=claim, finishing=True), "alone", "both", "*:80")
    assert acts(both) == []
    assert front.ready(both)
    assert not front.ready(handing(seen(world, claim=claim, stale="another"), "alone", "both"))
    assert acts(seen(both, finishing=False)) == ["front leave", "edge: alone"]
    # A dead one has nobody, and one that shares again takes its address back.
    assert steps(seen(world, state="dead")) == ["front leave"]
    assert acts(sharing(both)) == ["front take chat.test", "edge: alone"]


def test_who_does_not_share_has_nothing_to_do_with_it() -> None:
    world = worlds.at_rest(worlds.stack())
    assert steps(seen(world, state="dead")) == []


def test_a_change_has_not_held_before_the_world_finds_it() -> None:
    world = replace(standing(), claims=Claims(CLAIM, CLAIM, MORE, MORE))
    world = worlds.deploying(world, worlds.stack())
    done = [step.text for step in order(world)]
    assert done.index("front take chat.test, new.test") < done.index("rollout 2: commit")
    for _ in range(100):
        if world.edge_situation == "switched":
            break
        for step in reconcile(world).steps:
            world = simulate.apply(world, step)
        world = replace(simulate.settle(world), now=world.now + 10)
    assert world.edge_situation == "switched"
    stale = replace(world.observed.front, claim=MORE, stale="its addresses change")
    late = replace(world, observed=replace(world.observed, front=stale))
    assert [step.text for step in reconcile(late).steps] == ["front reload"]
