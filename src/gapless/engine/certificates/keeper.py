"""The certificates of one stack: their files, what is known of them, the orders under way.

``NAME.pem`` is in force, for this edge and the next one; ``NAME.next.pem`` is new, verified, and
waits to be put in force; ``NAME.last.pem`` was in force before. All are owner-only, and each is
written whole. Nothing ever writes over the one in force but what the edge has taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gapless import errors, observed
from gapless.core import certificates as decisions
from gapless.edge import base as edge_base
from gapless.engine import clock, durable
from gapless.engine.certificates import order as orders
from gapless.engine.certificates import x509
from gapless.engine.secrets import Secrets
from gapless.model.stack import Stack
from gapless.model.tls import GivenCertificate, Wanted

FOLDER = "certificates"
OWN_DAYS = 397.0
"""Of a self-signed one: longer ones are refused by some."""
SERVED_KNOWN = 30.0
"""Seconds for which what the edge shows is taken as known."""
SOURCES_EVERY = 5.0
"""Seconds between two looks whether given files have changed."""

Stamp = tuple[int, int, int]


class Keeper:
    """``folder``: where the stack file is, for files that it names. One per controller."""

    def __init__(self, home: Path, folder: Path, secrets: Secrets, edge: edge_base.Edge) -> None:
        self.home = home / FOLDER
        self.folder = folder
        self.secrets = secrets
        self.edge = edge
        self.wake: Callable[[], None] = lambda: None
        self.note: Callable[[str], None] = lambda text: None
        self.installed: dict[str, int] = {}
        """How often each was put in force by this controller."""
        self._stacks: dict[str, Stack] = {}
        self._wanted: dict[str, Wanted] = {}
        self._known: dict[str, observed.Certificate] = {}
        self._read: dict[Path, tuple[Stamp, x509.Facts]] = {}
        self._served: Mapping[str, int] = {}
        self._served_by: tuple[int | None, str] = (None, "")
        self._served_until = 0.0
        self._asked: set[str] = set()
        self._failures: dict[str, observed.Failures] = {}
        self._orders: dict[str, asyncio.Task[None]] = {}
        self._answers: dict[str, dict[str, str]] = {}
        self._sources: tuple[Stamp, ...] = ()
        self._sources_at = -SOURCES_EVERY
        self._told: dict[str, str] = {}

    # -- looking ----------------------------------------------------------------------------------

    async def look(
        self, stacks: Iterable[Stack], edge: observed.Edge
    ) -> dict[str, observed.Certificate]:
        """All that these stacks (the one in force first) want, there or not."""
        listed = list(stacks)
        self._wanted = decisions.wanted(listed)
        self._stacks = {one.name: s for s in reversed(listed) for one in s.certificates}
        if not self._wanted:
            return {}
        await self._ask(edge)
        self._look_at_sources()
        self._known = {name: self._seen(one) for name, one in self._wanted.items()}
        self._tell(self._known)
        return self._known

    @property
    def stapled(self) -> frozenset[str]:
        """Those whose authority the edge may ask: both the one in force and the one that waits, for
        what says nothing of whom to ask is not taken in the place of one that is asked for."""
        found = set()
        for name in self._wanted:
            files = [self._file(name), self._file(name, "next")]
            with contextlib.suppress(errors.EnvironmentFault):
                facts = [self._facts(path) for path in files]
                if any(facts) and all(one.asks for one in facts if one is not None):
                    found.add(name)
        return frozenset(found)

    def _seen(self, one: Wanted) -> observed.Certificate:
        try:
            facts = self._facts(self._file(one.name))
        except errors.EnvironmentFault as fault:
            # Not known to be missing, so it is neither made anew nor ordered.
            self._once(one.name, fault.message)
            return self._known.get(one.name, observed.Certificate(one.name, kind=one.kind))
        seen = observed.Certificate(
            one.name,
            served=self._served.get(one.name),
            fresh=facts is not None and self._file(one.name, "next").exists(),
            asked=one.name in self._asked,
            ordering=one.name in self._orders,
            failures=self._failures.get(one.name),
        )
        if facts is None:
            return seen
        return replace(
            seen,
            kind="stand-in" if one.kind == "issued" and facts.own else one.kind,
            names=facts.names,
            issuer=facts.issuer,
            serial=facts.serial,
            starts_at=facts.starts_at,
            ends_at=facts.ends_at,
        )

    def _facts(self, path: Path) -> x509.Facts | None:
        """Of a file; None where none is, or none that makes sense: it is made anew.

        Raises EnvironmentFault where it cannot be told: what is there must not be written over.
        """
        known = self._read.get(path)
        try:
            stat = path.stat()
            stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if known is None or known[0] != stamp:
                known = self._read[path] = (stamp, x509.facts(path.read_text("ascii")))
            return known[1]
        except (FileNotFoundError, ValueError):
            return None
        except OSError as error:
            raise errors.EnvironmentFault(f"{path}: cannot be read: {error.strerror}") from None

    async def _ask(self, edge: observed.Edge) -> None:
        """What the edge shows; asked again where that may have changed."""
        by = (edge.pid, edge.config)
        if edge.state != "running":
            self._served, self._served_by = {}, (None, "")
            return
        if by == self._served_by and clock.now() < self._served_until:
            return
        with contextlib.suppress(errors.EdgeRefused):
            self._served = await self.edge.certificates()
            self._served_by, self._served_until = by, clock.now() + SERVED_KNOWN

    def _look_at_sources(self) -> None:
        """Given files that have changed since they were read are read again."""
        given = [name for name, one in self._wanted.items() if one.kind == "given"]
        now = clock.now()
        if not given or now < self._sources_at + SOURCES_EVERY:
            return
        self._sources_at = now
        name = given[0]
        table = self._table(name)
        if table is None:
            return
        try:
            stats = [(self.folder / file).stat() for file in (table.cert, table.key)]
        except OSError:
            return  # what is in force stays
        stamps = tuple((s.st_ino, s.st_mtime_ns, s.st_size) for s in stats)
        if stamps == self._sources:
            return
        try:
            text = self._given(name)
            current = self._file(name).read_text("ascii") if self._file(name).exists() else ""
            if current and text != current:
                self._write(name, "next", text)
            self._failures.pop(name, None)
            self._sources = stamps
        except errors.GaplessError as fault:
            # Half written, perhaps: the next look tells.
            self._failures[name] = observed.Failures(1, now, fault.message)
            self._once(name, f"{fault.message}; the one before stays in force")

    def _table(self, name: str) -> GivenCertificate | None:
        stack = self._stacks.get(name)
        table = None if stack is None else stack.tls
        return table if isinstance(table, GivenCertificate) else None

    # -- acting -----------------------------------------------------------------------------------

    def make(self, name: str, kind: str, names: tuple[str, ...]) -> None:
        """Without an authority. Raises UsageError for given files that cannot be used."""
        if kind == "given":
            text = self._given(name)
        else:
            text = x509.self_signed(names, OWN_DAYS, clock.wall())
        first = self._facts(self._file(name)) is None
        self._write(name, "" if first else "next", text)
        self._asked.discard(name)

    def _given(self, name: str) -> str:
        table = self._table(name)
        if table is None:
            raise errors.UsageError("[edge] tls: no certificate is given any more")
        return read_given(self.folder, table, clock.wall())

    async def install(self, name: str) -> None:
        """Have the edge show what waits; then it is the one in force.

        Raises Unfit when the edge does not take it: it is laid aside, and the one before stays in
        force. Raises EdgeRefused when nobody hears: then it waits on.
        """
        waiting = self._file(name, "next")
        path = waiting if waiting.exists() else self._file(name)
        text = path.read_text("ascii")
        try:
            await self.edge.certify(name, text)
        except edge_base.Unfit as fault:
            if path == waiting:
                waiting.replace(self._file(name, "refused"))
                self._fail(name, fault.message)
            raise
        if path == waiting:
            current = self._file(name)
            if current.exists():
                self._write(name, "last", current.read_text("ascii"))
            waiting.replace(current)
        self._served_until = 0.0
        self._asked.discard(name)
        self.installed[name] = self.installed.get(name, 0) + 1

    def ask(self, name: str) -> None:
        """Another one, as soon as may be."""
        self._asked.add(name)
        self._failures.pop(name, None)
        self.wake()

    def again(self, name: str) -> None:
        """The one in force is put in force once more: all of a change but the new certificate.

        One that waits is what happens instead.
        """
        if self._file(name, "next").exists():
            return
        self._write(name, "next", self._file(name).read_text("ascii"))
        self.wake()

    def order(self, name: str, names: tuple[str, ...]) -> None:
        """Begin an order; it goes on by itself."""
        if name not in self._orders:
            task = asyncio.create_task(self._order(name, names))
            self._orders[name] = task
            task.add_done_callback(lambda _: self._over(name))

    def _over(self, name: str) -> None:
        self._orders.pop(name, None)
        self.wake()

    async def _order(self, name: str, names: tuple[str, ...]) -> None:
        try:
            authority = self._authority(name)
            loop = asyncio.get_running_loop()

            def answer(answers: Mapping[str, str]) -> None:
                asked = asyncio.run_coroutine_threadsafe(self._answer(name, answers), loop)
                asked.result(orders.ANSWER)

            text = await _in_thread(lambda: orders.obtain(authority, names, answer))
            if why := x509.fault(text, names, clock.wall()):
                raise errors.WorkFailed(f"certificate for {name}: what the authority sent: {why}")
            self._write(name, "next", text)
        except errors.GaplessError as fault:
            self._fail(name, fault.message)
            return
        except (OSError, TimeoutError) as fault:
            self._fail(name, f"certificate for {name}: {fault}")
            return
        self._asked.discard(name)
        self._failures.pop(name, None)
        self._told.pop(name, None)

    def _fail(self, name: str, reason: str) -> None:
        before = self._failures.get(name)
        count = before.count + 1 if before else 1
        self._failures[name] = observed.Failures(count, clock.now(), reason)
        self._asked.discard(name)
        self._once(name, reason)

    async def _answer(self, name: str, answers: Mapping[str, str]) -> None:
        """Several orders may run at a time: the edge has one list for all."""
        self._answers[name] = dict(answers)
        everything = {k: v for held in self._answers.values() for k, v in held.items()}
        await self.edge.challenges(everything)

    def _authority(self, name: str) -> orders.Authority:
        stack = self._stacks.get(name)
        if stack is None:
            raise errors.WorkFailed(f"certificate for {name}: nothing asks for it any more")
        table = stack.edge.acme
        account = self.secrets.get(orders.ACCOUNT)
        if account is None:
            account = orders.new_account()
            self.secrets.set(orders.ACCOUNT, account)
        ca = None if table.ca is None else str(self.folder / table.ca)
        return orders.Authority(table.directory, account, table.email, ca)

    async def close(self) -> None:
        """Orders end with the controller; the authority forgets what is not finished."""
        for task in self._orders.values():
            task.cancel()
        await asyncio.gather(*self._orders.values(), return_exceptions=True)

    # -- files and words --------------------------------------------------------------------------

    def _file(self, name: str, which: str = "") -> Path:
        return self.home / (f"{name}.{which}.pem" if which else f"{name}.pem")

    def _write(self, name: str, which: str, text: str) -> None:
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        durable.write(self._file(name, which), text)

    def _tell(self, seen: Mapping[str, observed.Certificate]) -> None:
        """What somebody should hear of, once."""
        wall = clock.wall()
        for name, one in seen.items():
            if not one.kind or not decisions.ends_soon(one, wall):
                continue
            why = f": {one.failures.reason}" if one.failures else ""
            left = "has ended" if wall >= one.ends_at else f"ends in {decisions.days(one, wall)}"
            self._once(f"{name} end", f"certificate {name} {left}{why}")

    def _once(self, subject: str, text: str) -> None:
        if self._told.get(subject) != text:
            self._told[subject] = text
            self.note(text)


def read_given(folder: Path, table: GivenCertificate, now: float) -> str:
    """The bundle of a stack's own files. Raises UsageError, naming the file and the fault."""
    texts = []
    for key in ("cert", "key"):
        path = folder / str(getattr(table, key))
        try:
            texts.append(path.read_text("ascii"))
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not PEM"
            raise errors.UsageError(
                f"[edge] tls.{key}: {path} cannot be read: {why}",
                hint="both are PEM files, relative to gapless.toml",
            ) from None
    try:
        text = x509.bundle(*texts)
    except ValueError as error:
        raise errors.UsageError(f"[edge] tls: {table.cert}, {table.key}: {error}") from None
    if why := x509.fault(text, (), now):
        raise errors.UsageError(f"[edge] tls: {table.cert}: {why}")
    return text


async def _in_thread(work: Callable[[], str]) -> str:
    """Done by a thread that keeps nobody from ending: it may wait for the network for long."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[str] = loop.create_future()

    def settle(method: Callable[[Any], None], value: Any) -> None:
        if not done.done():
            method(value)

    def run() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            try:
                value = work()
            except BaseException as error:  # it is told where somebody waits for it
                loop.call_soon_threadsafe(settle, done.set_exception, error)
            else:
                loop.call_soon_threadsafe(settle, done.set_result, value)

    threading.Thread(target=run, name="acme", daemon=True).start()
    return await done
