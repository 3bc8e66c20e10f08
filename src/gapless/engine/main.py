"""The controller as a program: ``python -m gapless.engine.main --file F [--for NAME]``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from pathlib import Path

from gapless import errors, stackfile
from gapless.edge import staticserver
from gapless.edge.haproxy import HAProxyEdge
from gapless.edge.staticserver import StaticServer
from gapless.engine import durable, lock, notify, rundir, stateformat, target, unit
from gapless.engine.api import Api
from gapless.engine.controller import Controller
from gapless.engine.front import Front
from gapless.engine.journal import Journal
from gapless.engine.operations import Operations
from gapless.engine.paths import Paths
from gapless.engine.releases import Releases
from gapless.engine.releases.images import Images, Logins
from gapless.engine.secrets import Secrets
from gapless.engine.site import Site
from gapless.model.packed import Packed
from gapless.model.stack import Stack
from gapless.runtimes.mixed import MixedRuntime
from gapless.runtimes.process import ProcessRuntime

LAST_ROUND = 5.0
"""Seconds that the round under way may take once the controller is told to end."""
USELESS_EVERY = 0.2
"""Seconds between looks whether the controller has anything to keep."""
USELESS_AFTER = 30.0
"""Seconds after which one that has nothing to keep ends."""
FIRST_LOOK = 3.0
"""Seconds that the API waits for the first round, so that it has something to tell."""


def site(paths: Paths, stack: Stack, folder: Path, where: str = target.PROCESS) -> Site:
    """The parts of a stack on this machine. ``folder``: where its file is; ``where``: its target.

    Raises UsageError where what the target needs is not installed.
    """
    secrets = Secrets(paths)
    runtime, images, once = _runtime(paths, where, Logins(secrets, stack))
    return Site(
        paths=paths,
        runtime=runtime,
        edge=HAProxyEdge(paths.state / "edge", paths.run, paths.stack, keep=True, packed=once),
        front=Front(paths, stack.edge.binary),
        static=StaticServer(paths.state / "static", runtime.address(staticserver.ID, "socket")),
        releases=Releases(paths, runtime.identity_uid, runtime.shared_group, images),
        secrets=secrets,
        notebook=durable.Notebook.load(paths.state / "notebook.json"),
        journal=Journal(paths.journal),
        folder=folder,
        packed=once,
    )


def _runtime(
    paths: Paths, where: str, logins: Logins
) -> tuple[ProcessRuntime | MixedRuntime, Images | None, Packed | None]:
    processes = ProcessRuntime(paths.state, paths.run, paths.stack)
    if where == target.PROCESS:
        return processes, None, None
    try:
        from gapless.runtimes.docker import DockerRuntime
        from gapless.runtimes.docker.once import Once
    except ImportError:
        raise errors.UsageError(
            f"--target {where}: its client is not installed",
            hint="pip install 'gapless[docker]'",
        ) from None
    containers = DockerRuntime(paths.state, paths.run, paths.stack)
    images = Images(containers.client, containers.owner, logins)
    once = Once(containers.client, containers.owner, containers.inner_bridge)
    return MixedRuntime(processes, containers), images, once


def known_stack(file: Path, overlay: str | None, name: str | None) -> Stack:
    """The file's stack; where the file is broken, that of the release in force of stack ``name``.

    What runs must be steered, and started again, also while somebody edits the file: only a
    deploy needs that. Raises what is wrong with the file where there is no such release.
    """
    try:
        return stackfile.load(file, overlay).stack
    except errors.InvalidStack:
        if name is None:
            raise
        paths = Paths.of(name)
        number = durable.load_desired(paths.record).stack
        if number is None:
            raise
        return Releases(paths).load_stack(number)


async def serve(
    file: Path,
    overlay: str | None,
    name: str | None = None,
    *,
    supervised: bool = False,
    asked: str | None = None,
) -> int:
    """Run the controller until ``down``, a handover or TERM; the exit code.

    TERM and a handover leave everything running. ``supervised``: somebody starts the next one.
    ``asked``: the target, where one was named.
    """
    stack = known_stack(file, overlay, name)
    paths = Paths.of(stack.id)
    paths.make()
    held = lock.take(paths)
    with held:
        paths.make()  # one that has just ended may have cleared the run directory
        stateformat.mark(paths)
        rundir.mark(paths)
        rundir.sweep(paths)
        where = target.of(paths, asked)
        target.keep(paths, where)
        controller = Controller(site(paths, stack, file.parent, where))
        controller.still_ours = lambda: lock.holds(paths, held)
        operations = Operations(controller, file, overlay)
        api = Api(controller, operations, supervised=supervised)
        controller.adopt()
        running = asyncio.create_task(controller.run())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _leave, controller, running)
        # A slow first round must not look like death.
        with contextlib.suppress(TimeoutError, errors.GaplessError):
            await asyncio.wait_for(controller.round_done(), FIRST_LOOK)
        await api.serve()
        notify.tell("READY=1", f"STATUS=steers {paths.stack}")
        helpers = [
            asyncio.create_task(api.keep()),
            asyncio.create_task(_end_when_useless(controller, operations)),
        ]
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await running
        finally:
            notify.tell("STOPPING=1")
            for helper in helpers:
                helper.cancel()
            await api.close()
            controller.site.journal.close()
        if operations.nothing_to_keep:
            rundir.remove(paths)
    return unit.HANDED_OVER if supervised and operations.handed_over else 0


async def _end_when_useless(controller: Controller, operations: Operations) -> None:
    """Nobody keeps a controller that keeps nothing: one whose first ``up`` was refused, one that
    was started with the machine for a stack that is down."""
    idle = 0.0
    while not controller.stopping:
        if not operations.nothing_to_keep:
            idle = 0.0
            try:  # what is kept is given up in a round, and by nothing else
                await controller.round_done()
            except errors.NoController:
                return
            except errors.GaplessError:
                pass  # nothing can be seen at present
            continue
        await asyncio.sleep(USELESS_EVERY)
        idle += USELESS_EVERY
        if operations.nothing_to_keep and (operations.useless or idle >= USELESS_AFTER):
            controller.stopping = True
            controller.wake()


def _leave(controller: Controller, running: asyncio.Task[None]) -> None:
    """End after the round under way; one that takes too long is cut off, as a kill would."""
    controller.stopping = True
    controller.wake()
    asyncio.get_running_loop().call_later(LAST_ROUND, running.cancel)


def main() -> int:
    """Parse the arguments and serve. Errors go to stderr as text and hint."""
    parser = argparse.ArgumentParser(prog="gapless controller")
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--for", dest="overlay")
    parser.add_argument("--stack", help="its id, for a file that turns out to be broken")
    parser.add_argument("--target", choices=target.TARGETS)
    parser.add_argument("--supervised", action="store_true", help="by a service manager")
    arguments = parser.parse_args()
    try:
        with contextlib.suppress(KeyboardInterrupt):
            return asyncio.run(
                serve(
                    arguments.file.absolute(),
                    arguments.overlay,
                    arguments.stack,
                    supervised=arguments.supervised,
                    asked=arguments.target,
                )
            )
    except errors.GaplessError as error:
        print(error.message, file=sys.stderr)  # noqa: T201  # the log is where it goes
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)  # noqa: T201  # as above
        return error.exit_code
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"{place}{error.strerror or error}", file=sys.stderr)  # noqa: T201  # as above
        return errors.EnvironmentFault.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
