"""Maintenance on and off cuts no connection; held requests are served, and none is done twice.

The page and a short hold are tried on the stack itself. What stops everything, or kills the
controller, is tried on a scratch stack of probes, which also record what they were asked to do.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from gapless import errors
from gapless.drills import base, controller, figures, generator, mix, scratch, traffic, verdict
from gapless.drills import spec as specs
from gapless.drills.base import Outcome, Target
from gapless.drills.stage import Stage
from gapless.drills.state import State
from gapless.drills.verdict import Reasons, Traffic

NAME = "maintenance"
PROMISE = "maintenance shows its page and cuts nothing, and held requests are served"
ROUNDS = 3
REQUESTS = 300
"""Sent in each phase of a round, at least."""
CLIENTS = 8
STRANGER = "127.0.0.77"
"""Whom the scratch stack lets pass during maintenance."""
HOLD = 20.0
"""Seconds that a hold may last that is taken back before."""
SHORT = 2.0
"""Seconds of a hold that must end by itself."""
PATIENCE = 10.0
"""Seconds more after which it has not."""
PAGE = "page"


@dataclass(frozen=True, slots=True)
class Page:
    """The stack itself. ``faults``: what was wrong with the answer itself.

    ``shown``: 503 that the load got. ``broken``: failures of the load, by kind, that were no
    whole 503 of that time.
    """

    faults: tuple[str, ...]
    shown: int
    broken: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Held:
    """The probes. ``restarted``: replicas that were replaced while requests were held.

    ``done`` and ``twice``: POSTs on their record, and how many of them there twice. ``gone``: POSTs
    whose client had left meanwhile, and ``ghosts``: how many of them were done all the same.
    ``alone``: what became of a request that was held when the controller died.
    """

    requests: int
    failed: int
    restarted: int
    done: int
    answered: int
    twice: int
    gone: int
    ghosts: int
    alone: str
    allowed: tuple[str, ...] = ()
    """What was wrong with those who may pass."""

    def told(self) -> str:
        """One line for people."""
        return (
            f"probes: {self.restarted} replicas replaced under a hold, {self.failed} of "
            f"{self.requests:,} requests failed; {self.ghosts} of {self.gone} POSTs done whose "
            f"client had left; without a controller: {self.alone}"
        )


@dataclass(frozen=True, slots=True)
class Table:
    traffic: Traffic
    page: Page
    held: Held


def judge(table: Table, strict: bool = False) -> Reasons:
    """``strict`` asks for nothing more: no time is promised here."""
    page, held = table.page, table.held
    reasons = [*page.faults]
    if not page.shown:
        reasons.append("the load never met the page")
    if page.broken:
        kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(page.broken.items()))
        reasons.append(f"requests failed that should not have ({kinds})")
    if not held.restarted:
        reasons.append("hold: nothing was replaced")
    if held.failed or not held.requests:
        reasons.append(f"hold: {held.failed} of {held.requests:,} requests failed")
    if held.done < held.answered or held.twice:
        reasons.append(
            f"hold: {held.answered} POSTs answered, {held.done} done, {held.twice} twice"
        )
    if not held.gone:
        reasons.append("hold: no client was held that could leave")
    if held.ghosts:
        reasons.append(f"hold: {held.ghosts} POSTs were done whose client had left")
    if held.alone != "served":
        reasons.append(f"hold, and the controller died: the request was {held.alone}")
    return (*reasons, *held.allowed)


def subject(target: Target, state: State) -> str:
    name = base.published(target, state)
    if state.maintenance:
        raise errors.MissingSubject("maintenance is on", hint="gapless maintenance off")
    return f"{state.services[name].desired} replicas of {name}, and a scratch stack of probes"


def run(stage: Stage) -> Outcome:
    before = stage.settle()
    chosen = mix.choose(stage.target, before, stage.options)
    mix.check(chosen)
    stage.later("maintenance off", lambda: _off(stage))
    began = time.monotonic()
    measured, faults = switched(stage, chosen)
    page = sort(measured, faults)
    held = short_stop(stage)
    stage.say(held.told())
    whole = measured.total()
    found = Traffic(
        requests=whole.requests,
        failed=sum(page.broken.values()),
        unknown=whole.unknown,
        reused_failed=whole.reused_failed,
        kinds=page.broken,
        handovers=held.restarted,
        seconds=time.monotonic() - began,
        sockets=measured.sockets,
    )
    table = Table(found, page, held)
    detail = {"page": asdict(page), "held": asdict(held), "failures": measured.failures[:20]}
    reasons = (*judge(table, stage.options.strict), *verdict.sockets_told(found))
    return Outcome(NAME, reasons, found, detail)


def _off(stage: Stage) -> None:
    stage.must("/v1/maintenance", on=False)


# -- on and off ---------------------------------------------------------------------------------


def switched(stage: Stage, chosen: mix.Mix) -> tuple[figures.Measured, list[str]]:
    """A hold and the page, on and off, some times under load; what was wrong with the page."""
    faults: list[str] = []
    spec = chosen.spec(chosen.closed(), traffic.LONGEST, sockets=chosen.sockets())
    patience = spec.timeout
    each = max(1, (stage.options.requests or REQUESTS) // 3)
    with generator.Load(spec) as load:
        load.until(requests=each, sockets=sum(s.clients for s in spec.sockets), seconds=patience)
        for _ in range(stage.options.rounds or ROUNDS):
            load.enter("held")
            stage.must("/v1/maintenance", hold=HOLD)
            _off(stage)
            load.until(requests=load.requests + each, seconds=patience)
            load.enter(PAGE)
            stage.must("/v1/maintenance", on=True)
            faults += page_faults(stage, chosen)
            load.until(requests=load.requests + each, seconds=patience)
            _off(stage)
            load.enter("after")
            load.until(requests=load.requests + each, seconds=patience)
        measured = load.finish(patience + 5.0)
    return measured, sorted(set(faults))


def sort(measured: figures.Measured, faults: list[str]) -> Page:
    """Pure. A 503 while the page was on is what was asked for; anything else is not."""
    shown, broken = 0, Counter[str]()
    for phase, streams in measured.phases.items():
        for one in streams.values():
            kinds = dict(one.kinds)
            if phase == PAGE:
                shown += kinds.pop("5xx", 0)
            broken.update(kinds)
    return Page(tuple(faults), shown, dict(broken))


def page_faults(stage: Stage, chosen: mix.Mix) -> list[str]:
    """What is wrong with the page, as somebody sees it whom nobody let pass."""
    try:
        status, headers, body = mix.ask(chosen, chosen.get[0], own_page_address(stage))
    except (OSError, http.client.HTTPException) as error:
        return [f"page: no answer ({error or type(error).__name__})"]
    faults = []
    if status != 503:
        faults.append(f"page: status {status}")
    if not headers.get("retry-after", "").isdigit():
        faults.append("page: without Retry-After")
    name = stage.target.stack.edge.maintenance_page
    if name is not None:
        place = stage.target.file.parent / stage.target.stack.source / name
        with contextlib.suppress(OSError):
            if body != place.read_bytes():
                faults.append(f"page: it is not {name}")
    return faults


def own_page_address(stage: Stage) -> str | None:
    """An address of this machine that may not pass; None: the usual one."""
    import ipaddress

    networks = [ipaddress.ip_network(one, strict=False) for one in stage.target.stack.edge.allow]
    candidates = ["127.0.0.1", *(f"127.{n}.{n}.{n}" for n in range(2, 255))]
    for candidate in candidates:
        address = ipaddress.ip_address(candidate)
        if not any(address in network for network in networks if network.version == 4):
            return candidate if networks else None
    raise errors.MissingSubject("[edge] allow lets every address of this machine pass")


# -- a short stop -------------------------------------------------------------------------------


def short_stop(stage: Stage) -> Held:
    """Everything stops and starts behind held requests, of probes that record what they do."""
    name = scratch.name_for(stage.paths.stack)
    stage.say(f"a short stop under held requests: a scratch stack {name} of probe services")
    ground, allow = scratch.Ground.of(stage.target.stack), f'allow = ["{STRANGER}"]'
    settings = scratch.Settings(ledger=True, start="20s", edge=allow, ground=ground)
    folder = stage.paths.state / "drill"
    streams = (
        specs.Stream(name="GET", path="/", clients=CLIENTS),
        specs.Stream(name="GET (close)", path="/", clients=2, keep_alive=False),
        specs.Stream(name="POST", path="/once?s=0", method="POST", clients=CLIENTS),
    )
    with scratch.stack(name, folder, stage.say, settings, base.Options()) as probes:
        chosen = mix.choose(probes.target, probes.look(), probes.options)
        spec = chosen.spec(streams, traffic.LONGEST)
        with generator.Load(spec) as load:
            load.until(requests=100, seconds=20.0)
            restarted = stop_and_start(probes)
            load.until(requests=load.requests + 100, seconds=20.0)
            measured = load.finish(spec.timeout + 5.0)
        count = measured.total()
        record = Counter(probes.ledger())
        answered = sum(len(s["POST"].samples) for s in measured.phases.values() if "POST" in s)
        gone, ghosts = deserted(probes, chosen)
        allowed = passing(probes, chosen)
        alone = orphaned(probes, chosen)
    twice = sum(number > 1 for number in record.values())
    return Held(
        count.requests,
        count.failed,
        restarted,
        len(record),
        answered,
        twice,
        gone,
        ghosts,
        alone,
        tuple(allowed),
    )


def stop_and_start(probes: scratch.Scratch) -> int:
    """Hold, stop, start, release; how many replicas were replaced by that."""
    before = {one.pid for one in probes.settle().serving()}
    probes.must("/v1/maintenance", hold=HOLD)
    probes.must("/v1/stop", services=[])
    probes.must("/v1/start", services=[])
    after = {one.pid for one in probes.look().serving()}
    _off(probes)
    return len(after - before) if len(after) == len(before) else 0


def deserted(probes: scratch.Scratch, chosen: mix.Mix) -> tuple[int, int]:
    """POSTs whose client leaves while they are held, and how many are done all the same."""
    before = len(probes.ledger())
    probes.must("/v1/maintenance", hold=HOLD)
    clients = [_asking(chosen, "POST", "/once?s=0") for _ in range(CLIENTS)]
    held = _waiting(probes, lambda here: here >= CLIENTS)
    for client in clients:
        client.close()
    _off(probes)
    _waiting(probes, lambda here: here == 0)  # all have been dealt with, in whichever way
    return len(clients) if held else 0, len(probes.ledger()) - before


def _asking(chosen: mix.Mix, method: str, path: str) -> socket.socket:
    """A connection with a request on it that nobody has answered yet. Raises OSError."""
    client = socket.create_connection(specs.own_address(chosen.url), chosen.timeout)
    host = chosen.host or "probes"
    client.sendall(
        f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\n\r\n".encode()
    )
    client.sendall(b"hi")
    return client


def _waiting(probes: scratch.Scratch, enough: Callable[[int], bool]) -> bool:
    """Wait for as many clients at the edge as are ``enough``; False: they never are."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if enough(int(probes.client.get("/v1/counters")[""]["sessions"])):
            return True
        time.sleep(0.01)
    return False


def passing(probes: scratch.Scratch, chosen: mix.Mix) -> list[str]:
    """What is wrong with those who may pass while others may not."""
    probes.must("/v1/maintenance", on=True)
    faults = []
    for source, wanted in ((STRANGER, 200), (None, 503)):
        try:
            found = mix.ask(chosen, "/", source)[0]
        except (OSError, http.client.HTTPException) as error:
            faults.append(f"{source or 'anybody'} during maintenance: no answer ({error})")
            continue
        if found != wanted:
            faults.append(f"{source or 'anybody'} during maintenance: {found}, not {wanted}")
    _off(probes)
    return faults


def orphaned(probes: scratch.Scratch, chosen: mix.Mix) -> str:
    """A request that is held when the controller dies: served, once the time is over."""
    probes.must("/v1/maintenance", hold=SHORT)
    with _asking(chosen, "POST", "/echo") as client:
        _waiting(probes, lambda here: here >= 1)
        controller.kill(probes)
        client.settimeout(SHORT + PATIENCE)
        try:
            words = client.recv(64).split()
        except OSError as error:
            return f"lost ({error or type(error).__name__})"
        finally:
            probes.up()
            probes.settle()
    status = words[1].decode("latin-1") if len(words) > 1 else "cut"
    return "served" if status == "200" else status
