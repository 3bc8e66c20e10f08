"""What a drill acts with: looks, operations, and a list of what must be put back.

Everything goes the way that a person's commands go: the controller's API, and ``gapless up -d``
where no controller is left to answer.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from gapless import errors
from gapless.drills.base import Options, Target
from gapless.drills.state import State
from gapless.engine.client import Client
from gapless.engine.paths import Paths
from gapless.engine.releases import store
from gapless.model import stack as stacks

SETTLE = 180.0
"""Seconds in which a stack must have come to rest after a change."""
CLI = (sys.executable, "-P", "-c", "from gapless.cli.main import main; main()")

Say = Callable[[str], None]


def environment() -> dict[str, str]:
    """That of the commands that a drill gives. Which overlay is meant they are told by ``--for``:
    the one that the drill was started with is none of a scratch stack's."""
    return {name: value for name, value in os.environ.items() if name != "GAPLESS_FOR"}


@dataclass(frozen=True, slots=True)
class End:
    """How an operation ended. ``steps`` are the texts of what was done."""

    exit: int
    message: str = ""
    hint: str | None = None
    result: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[str, ...] = ()
    log: tuple[str, ...] = ()
    """The last lines of the replica that is to blame."""

    @classmethod
    def of(cls, event: Mapping[str, Any], steps: Sequence[str] = ()) -> Self:
        """From the last event of a stream."""
        return cls(
            exit=int(event.get("exit", 1)),
            message=str(event.get("message") or ""),
            hint=event.get("hint"),
            result=event.get("result") or {},
            steps=tuple(steps),
            log=tuple(str(line) for line in event.get("log") or ()),
        )


class Stage:
    """One stack under a drill."""

    def __init__(self, target: Target, options: Options, paths: Paths, say: Say) -> None:
        self.target = target
        self.options = options
        self.paths = paths
        self.client = Client(paths)
        self.say = say
        self._undo: list[tuple[str, Callable[[], None]]] = []

    def look(self) -> State:
        """The stack now. Raises NoController."""
        return State.of_status(self.client.get("/v1/status"))

    def settle(self, seconds: float = SETTLE) -> State:
        """Wait until nothing is under way and all that is wanted is ready. Raises WorkFailed."""
        deadline = time.monotonic() + seconds
        while True:
            state = self.look()
            if state.settled:
                return state
            if time.monotonic() > deadline:
                raise errors.WorkFailed(
                    f"{self.paths.stack}: not at rest within {seconds:g} s", hint="gapless ps"
                )
            time.sleep(0.2)

    def told(self, state: State, what: str, part: Callable[[stacks.Stack], object]) -> None:
        """Raises MissingSubject where the release that runs differs from the file in a ``part``.

        A drill asks what the file says, and the edge does what it was told by the last deploy.
        """
        if state.release is None:
            return
        release = store.Releases(self.paths).load_stack(state.release)
        if part(release) != part(self.target.stack):
            raise errors.MissingSubject(
                f"r{state.release} has other {what} than the file", hint="gapless deploy"
            )

    def begin(self, path: str, **body: Any) -> Iterator[dict[str, Any]]:
        """The events of an operation, as they come. Raises NoController when it goes away."""
        return self.client.stream(path, {"file": str(self.target.file), **body})

    def operate(self, path: str, **body: Any) -> End:
        """One operation to its end, whatever the end."""
        steps = []
        for event in self.begin(path, **body):
            if event.get("event") == "step":
                steps.append(str(event.get("text")))
            elif event.get("event") == "end":
                return End.of(event, steps)
        raise errors.NoController(
            f"{self.paths.stack}: the controller hung up before the end", hint="gapless up -d"
        )

    def must(self, path: str, **body: Any) -> End:
        """One operation that has to succeed. Raises WorkFailed with its own message."""
        end = self.operate(path, **body)
        if end.exit != 0:
            raise errors.WorkFailed(
                f"{path.rpartition('/')[2]} failed (exit {end.exit}): {end.message}",
                hint=end.hint,
            )
        return end

    def up(self) -> None:
        """``gapless up -d``: a controller that adopts what runs. Raises WorkFailed."""
        argv = [*CLI, "-f", str(self.target.file)]
        if self.target.overlay:
            argv += ["--for", self.target.overlay]
        where = [] if self.target.on is None else ["--target", self.target.on]
        done = subprocess.run(
            [*argv, "up", "-d", *where],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            env=environment(),
        )
        # A controller that finds a half-done deploy undoes it first, and ``up`` may say so and
        # end: it was started all the same.
        if done.returncode != 0 and not (self.client.alive() and self.look().rollout):
            said = (done.stderr or done.stdout).strip().splitlines()
            raise errors.WorkFailed(
                f"gapless up -d failed (exit {done.returncode}): {' · '.join(said[-5:])}"
            )

    # Putting back

    def later(self, what: str, undo: Callable[[], None]) -> None:
        """Have this done when the drill ends, however it ends; the last one first."""
        self._undo.append((what, undo))

    def forget(self, what: str) -> None:
        """It has been put back already."""
        self._undo = [one for one in self._undo if one[0] != what]

    def put_back(self) -> tuple[str, ...]:
        """Do all of it; what could not be done is told, and the rest is done all the same."""
        failed = []
        while self._undo:
            what, undo = self._undo.pop()
            try:
                undo()
            except (errors.GaplessError, OSError, subprocess.SubprocessError) as error:
                failed.append(f"{what}: {error}")
        return tuple(failed)

    def calm(self) -> None:
        """Undo a rollout that is under way, and wait until the stack is at rest."""
        if not self.client.alive():
            self.up()
        if self.look().rollout:
            self.operate("/v1/abort")
        self.settle()


@contextlib.contextmanager
def alone(paths: Paths) -> Iterator[None]:
    """One drill at a time on a stack: two would measure each other. Raises Locked."""
    try:
        place = os.open(paths.state / "drill.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise errors.EnvironmentFault(
            f"{paths.state}: cannot be written to: {error.strerror}",
            hint="run drills as the user who runs the stack",
        ) from None
    try:
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(place, 32, 0).decode("ascii", "replace").strip()
            raise errors.Locked(
                f"{paths.stack}: another drill runs (pid {holder or 'unknown'})"
            ) from None
        os.ftruncate(place, 0)
        os.pwrite(place, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(place)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """TERM and HUP end a drill as Ctrl-C does: by way of putting back."""

    def stop(number: int, _: Any) -> None:
        raise KeyboardInterrupt

    kept = {}
    for name in (signal.SIGTERM, signal.SIGHUP):
        with contextlib.suppress(ValueError):  # not in the main thread: the caller's business
            kept[name] = signal.signal(name, stop)
    try:
        yield
    finally:
        for name, handler in kept.items():
            signal.signal(name, handler)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """While things are put back, a second Ctrl-C does not stop it half-way."""
    kept = {}
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        with contextlib.suppress(ValueError):
            kept[name] = signal.signal(name, signal.SIG_IGN)
    try:
        yield
    finally:
        for name, handler in kept.items():
            signal.signal(name, handler)
