"""Which certificate is due, and when an authority is asked again. Pure."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gapless.core import certificates, reconcile, simulate
from gapless.core.world import EdgeConfigs, World
from gapless.engine import rollouts
from gapless.model.desired import Desired, Generation
from gapless.model.stack import Stack
from gapless.model.tls import Wanted
from gapless.observed import Certificate, Edge, Failures, Observed

DAY = 86_400.0
NAMES = ("a.example.com", "b.example.com")
WEB = {"run": "uvicorn a:b --uds ${socket}", "replicas": 0}
ISSUED = Certificate(
    "a.example.com", "issued", ("a.example.com",), "CA", 7, 0.0, 90 * DAY, served=7
)
WANTED = Wanted("a.example.com", "issued", ("a.example.com",))


def stack(**edge: object) -> Stack:
    table = {"gapless": 1, "name": "demo", "service": {"web": WEB}, "edge": edge}
    return Stack.model_validate({**table, **({} if "tls" in edge else {"domains": NAMES})})


def world(of: Stack, **seen: object) -> World:
    desired = Desired(running=True, vector={"web": Generation(1)}, stack=1)
    observed = Observed(**seen)  # type: ignore[arg-type]
    return World(desired, {1: of}, observed, 1000.0, edge_configs=EdgeConfigs("x", "x", "x"))


def steps(of: World) -> list[str]:
    return [step.text for step in reconcile.reconcile(of).steps]


def test_the_whole_of_a_first_up() -> None:
    made = str(simulate.unroll(world(stack())))
    assert made.splitlines()[:5] == [
        "[1] certificate a.example.com make a stand-in, there is none yet",
        "[2] certificate b.example.com make a stand-in, there is none yet",
        "[3] edge start, the stack needs it",
        "[4] certificate a.example.com order, a stand-in is shown",
        "[5] certificate b.example.com order, a stand-in is shown",
    ]
    assert made.splitlines()[5:] == [
        "[6] certificate a.example.com put in force, it is new",
        "[7] certificate b.example.com put in force, it is new",
    ]


def test_no_edge_starts_without_its_certificates() -> None:
    assert steps(world(stack(tls="self-signed"))) == ["certificate self-signed make"]
    half = {"a.example.com": ISSUED}
    assert "edge start" not in steps(world(stack(), certificates=half))


def test_nobody_waits_for_an_authority() -> None:
    stand_in = replace(ISSUED, kind="stand-in", failures=Failures(3, 999.0, "down"))
    seen = {"a.example.com": stand_in, "b.example.com": replace(ISSUED, name="b.example.com")}
    seen["b.example.com"] = replace(seen["b.example.com"], names=("b.example.com",))
    found = world(stack(), certificates=seen, edge=Edge("running", config="x"))
    decision = reconcile.reconcile(found)
    assert decision.steps == ()
    assert decision.waits == ()
    later = replace(found, now=999.0 + certificates.BACK_OFF * 9 * 1.2 + 1)
    assert steps(later) == ["certificate a.example.com order"]


def test_an_order_waits_until_the_edge_answers_its_questions() -> None:
    """During a deploy the routes in force are those from before it."""
    plain, target = stack(tls="self-signed"), stack()
    found = world(plain, edge=Edge("running", config="x"))
    rollout = rollouts.deploy(found.desired, 2, target, (), kind="deploy", park=True)
    desired = replace(found.desired, rollout=replace(rollout, phase="rolling"))
    changing = replace(
        found,
        desired=desired,
        stacks={1: plain, 2: target},
        edge_configs=EdgeConfigs("x", "x", "y"),
    )
    texts = [step.text for step in simulate.unroll(changing).steps]
    order = texts.index("certificate a.example.com order")
    assert texts.index("certificate a.example.com make a stand-in") < texts.index("edge reload")
    assert texts.index("edge reload") < order


def test_renewed_when_a_third_is_left() -> None:
    assert certificates.due(WANTED, ISSUED, 50 * DAY) == ""
    assert certificates.due(WANTED, ISSUED, 61 * DAY) == "29 days are left"
    assert certificates.due(WANTED, ISSUED, 91 * DAY) == "it has ended"
    assert certificates.due(WANTED, replace(ISSUED, names=("x.example.com",)), 0.0) != ""
    assert certificates.due(WANTED, replace(ISSUED, kind="stand-in"), 0.0) != ""
    assert certificates.due(WANTED, replace(ISSUED, asked=True), 0.0) == "it was asked for"
    given_one = Wanted("given", "given", NAMES)
    assert certificates.due(given_one, replace(ISSUED, kind="given"), 91 * DAY) == ""


@given(st.integers(1, 2**60), st.floats(DAY, 800 * DAY))
def test_not_all_at_once_and_never_late(serial: int, life: float) -> None:
    at = certificates.renew_at(replace(ISSUED, serial=serial, ends_at=life))
    assert life * (2 / 3 - 1 / 30) - 1 <= at <= life * 2 / 3 + 1


@given(st.integers(1, 10_000))
def test_the_back_off_grows_and_ends(count: int) -> None:
    def pause(count: int) -> float:
        return certificates.not_before(replace(ISSUED, failures=Failures(count, 0.0)))

    assert certificates.BACK_OFF <= pause(count) <= certificates.BACK_OFF_MOST * 1.2
    assert pause(count + 1) >= pause(count) * 0.8


def test_soon_is_a_tenth_or_two_weeks() -> None:
    assert not certificates.ends_soon(ISSUED, 80 * DAY)
    assert certificates.ends_soon(ISSUED, 82 * DAY)
    year = replace(ISSUED, ends_at=365 * DAY)
    assert not certificates.ends_soon(year, 350 * DAY)
    assert certificates.ends_soon(year, 352 * DAY)


def test_what_the_edge_shows_is_what_is_there() -> None:
    seen = {"self-signed": replace(ISSUED, name="self-signed", kind="self-signed", served=6)}
    seen["self-signed"] = replace(
        seen["self-signed"], names=("localhost", "127.0.0.1", "::1"), fresh=False
    )
    found = world(stack(tls="self-signed"), certificates=seen, edge=Edge("running", config="x"))
    assert steps(found) == ["certificate self-signed put in force"]


def test_a_failed_order_undoes_no_deploy() -> None:
    step = certificates.OrderCertificate("a.example.com", ("a.example.com",))
    assert step.subject.startswith(certificates.CERTIFICATE)
    assert certificates.MakeCertificate("x", "given", ()).subject == "edge"
