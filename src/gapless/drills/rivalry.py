"""The rounds of drill ``singleton``: each strikes, wakes the dead to see that they are, and waits.

A paused holder proves nothing while it sleeps. So once its successor holds, it is woken: one that
is not truly dead writes at once, and its line stands behind the successor's.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
import time
from collections.abc import Callable, Mapping, Sequence

from gapless import errors
from gapless.drills import controller, rivals, strike, tenure
from gapless.drills.scratch import Scratch
from gapless.drills.strike import Struck
from gapless.drills.tenure import Line
from gapless.runtimes.machine import proc

WAIT = 30.0
"""Seconds in which somebody must hold, or lead, again."""
LATE = 5.0
"""Seconds that a woken leader is given to try a write, and to be refused."""
POLL = 0.02
PATTERN = (
    "kill",
    "pause",
    "kill",
    "deploy",
    "kill",
    "controller killed",
    "kill",
    "pause in a restart",
    "controller paused",
    "controller killed in a restart",
)
CRASHES = frozenset({"kill", "pause"})
"""Kinds in which a controller is there, and it is for it to see that the holder is no good."""
STEPS = 4
"""The controller is killed after one of the first steps of a restart, each in its turn."""


def kinds(rounds: int) -> tuple[str, ...]:
    """So many rounds, each kind in its turn."""
    return tuple(itertools.islice(itertools.cycle(PATTERN), rounds))


class Match:
    """Plays the rounds and keeps what cannot be read from the diaries."""

    def __init__(self, probes: Scratch, leaders: bool) -> None:
        self.probes = probes
        self.leaders = leaders
        self.holders = rivals.Diary(probes.paths.data, "diary", tenure.holder_line)
        self.leading = rivals.Diary(probes.paths.data, "leaders", tenure.leader_line)
        self.rounds: list[tuple[str, str, str]] = []
        """Kind, holder before, holder after ("": none in time)."""
        self.leader_gaps: list[float | None] = []
        self.leaders_paused = 0
        self.intruders: list[str] = []
        self._cut = 0

    def play(self, order: Sequence[str]) -> None:
        """All rounds. Raises WorkFailed when one cannot be carried out."""
        for number, kind in enumerate(order, 1):
            began = time.monotonic()
            self.probes.settle()
            before = self._holder()
            leader = self._leader() if self.leaders else None
            family = {line.pid for line in self.holders.read() if line.holder == before}
            with strike.held(before, strike.found(before, family)) as holder:
                ROUNDS[kind](self, holder, leader)
                after = self._next(before)
                # Whoever was paused would speak now.
                holder.send(signal.SIGCONT)
            self.rounds.append((kind, before, after))
            took = time.monotonic() - began
            self.probes.say(f"{number} {kind}: {before}, then {after or 'nobody'} ({took:.1f} s)")
        self.probes.settle()
        # Time for a second holder to say so, wherever it may come from.
        time.sleep(0.5)

    # -- who ------------------------------------------------------------------------------

    def _holder(self) -> str:
        """Who holds. Raises WorkFailed."""
        for line in reversed(self.holders.read()):
            if line.word in ("took", "refused"):
                return line.holder
        raise errors.WorkFailed("the probe singleton has not written a word", hint="gapless ps")

    def _next(self, before: str) -> str:
        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline:
            if (now := self._holder()) != before:
                return now
            time.sleep(POLL)
        return ""

    def _leader(self) -> Line | None:
        """The last who said that he leads, if he lives; None when nobody did in time.

        After a deploy the last to say so may be gone, and his lease may still run.
        """
        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline:
            said = (line for line in reversed(self.leading.read()) if line.word == "leads")
            last = next(said, None)
            if last is not None and proc.variable(last.pid, "SERVER_ID") == last.holder:
                return last
            time.sleep(POLL)
        return None

    def _next_leader(self, before: Line, struck_at: float) -> None:
        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline:
            now = self._leader()
            if now is not None and int(now.role) > int(before.role):
                self.leader_gaps.append(now.at - struck_at)
                return
            time.sleep(POLL)
        self.leader_gaps.append(None)

    def tally(self) -> tuple[tuple[int, int], ...]:
        """Runs of tokens as the table has them. Raises WorkFailed."""
        said = ""
        for event in self.probes.begin("/v1/run", name="tally"):
            if event.get("event") == "output":
                said += str(event.get("text"))
            elif event.get("event") == "end" and event.get("exit") != 0:
                raise errors.WorkFailed(f"the writes cannot be counted: {event.get('message')}")
        return tenure.runs(said)

    # -- what happens to them -------------------------------------------------------------

    def kill(self, holder: Struck, leader: Line | None) -> None:
        """kill -9 of the main processes; the singleton's children go on."""
        mains = strike.found(holder.id, {self._pid(holder.id)})
        with strike.held(holder.id, mains) as main:
            main.send(signal.SIGKILL)
        self._strike_leader(leader, signal.SIGKILL)

    def pause(self, holder: Struck, leader: Line | None) -> None:
        """Both families stand still, until they are replaced."""
        holder.send(signal.SIGSTOP)
        self._strike_leader(leader, signal.SIGSTOP)
        self._next(holder.id)

    def deploy(self, holder: Struck, leader: Line | None) -> None:
        """A new release of all."""
        self.probes.write("good")
        self.probes.must("/v1/deploy", services=[])

    def pause_in_restart(self, holder: Struck, leader: Line | None) -> None:
        """It stands still when it is asked to end; the leader is left to himself."""
        holder.send(signal.SIGSTOP)
        self.probes.must("/v1/restart", services=[rivals.BEAT])
        self._strike_leader(leader, signal.SIGSTOP)

    def kill_controller(self, holder: Struck, leader: Line | None) -> None:
        """Nobody is there when it dies."""
        controller.kill(self.probes)
        self.kill(holder, None)
        self.probes.up()

    def kill_controller_in_restart(self, holder: Struck, leader: Line | None) -> None:
        """After some step of it; the holder dies as well, if there is one just then."""
        self._cut += 1
        self._interrupted(1 + self._cut % STEPS)
        holder.send(signal.SIGKILL)
        self.probes.up()

    def _interrupted(self, step: int) -> None:
        """Restart the singleton and kill the controller after so many steps."""
        done = 0
        with contextlib.suppress(errors.NoController):
            for event in self.probes.begin("/v1/restart", services=[rivals.BEAT]):
                done += event.get("event") == "step"
                if done == step:
                    controller.kill(self.probes)
                    return
                if event.get("event") == "end":
                    return

    def pause_controller(self, holder: Struck, leader: Line | None) -> None:
        """It holds the lock in its sleep: no second one may get in."""
        with strike.paused_controller(self.probes):
            self.kill(holder, None)
            if intruder := strike.second_controller(self.probes):
                self.intruders.append(intruder)

    def _pid(self, holder: str) -> int:
        """Its main process, by its own word."""
        for line in self.holders.read():
            if (line.holder, line.role) == (holder, "main"):
                return line.pid
        raise errors.WorkFailed(f"{holder}: has not written who it is")

    def _strike_leader(self, leader: Line | None, number: signal.Signals) -> None:
        if leader is None:
            return
        with strike.held(leader.holder, [leader.pid]) as struck:
            at = time.clock_gettime(time.CLOCK_BOOTTIME)
            struck.send(number)
            self._next_leader(leader, at)
            if number == signal.SIGSTOP:
                self._woken(struck, leader)

    def _woken(self, struck: Struck, leader: Line) -> None:
        """Give a leader of yesterday the time to try a write, unless it was ended in its sleep."""
        struck.send(signal.SIGCONT)
        deadline = time.monotonic() + LATE
        while time.monotonic() < deadline and not struck.gone:
            lines = self.leading.read()
            if any((line.word, line.role) == ("late", leader.role) for line in lines):
                break
            time.sleep(POLL)
        self.leaders_paused += not struck.gone


ROUNDS: Mapping[str, Callable[[Match, Struck, Line | None], None]] = {
    "kill": Match.kill,
    "pause": Match.pause,
    "deploy": Match.deploy,
    "pause in a restart": Match.pause_in_restart,
    "controller killed": Match.kill_controller,
    "controller killed in a restart": Match.kill_controller_in_restart,
    "controller paused": Match.pause_controller,
}
