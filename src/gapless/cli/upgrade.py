"""``up`` with another gapless than the one that steers: that one ends, the new one adopts all.

Nothing that runs is touched: replicas, load balancer and stores never belonged to the old one.
"""

from __future__ import annotations

import time

from gapless import __version__, errors
from gapless.cli import follow, out
from gapless.cli.session import Session
from gapless.engine import build, stateformat

AGAIN = 60.0
"""Seconds that a service manager may take to start the next controller."""


def take_over(session: Session) -> bool:
    """Have the running controller end if it is of other code; False when it is of the same.

    Raises what the controller refuses (a change is under way), EnvironmentFault when the state
    is a newer gapless's or the service manager starts the old code again.
    """
    stateformat.check(session.paths)
    steering = session.client.get("/v1/ping", timeout=session.timeout or 10.0)
    mine = build.digest()
    if steering.get("build") in (None, mine):
        return False
    versions = f"{steering['version']} to {__version__}"
    if steering["version"] == __version__:
        versions = f"{__version__}, other code"
    out.progress(f"{session.stack_id}: taking over ({versions}); what runs goes on")
    session.client.post("/v1/handover", {"actor": follow.who(), "to": versions})
    if steering.get("supervised"):
        await_next(session, int(steering["pid"]), mine)
        return False
    return True


def await_next(session: Session, old: int, mine: str) -> None:
    """Until the service manager has started this code. Raises EnvironmentFault."""
    deadline = time.monotonic() + (session.timeout or AGAIN)
    while time.monotonic() < deadline:
        try:
            steering = session.client.get("/v1/ping", timeout=2.0)
        except errors.GaplessError:
            steering = {"pid": old}
        if steering["pid"] != old:
            if steering.get("build") != mine:
                raise errors.EnvironmentFault(
                    f"{session.stack_id}: the systemd unit starts another gapless "
                    f"({steering['version']})",
                    hint="gapless install writes the unit anew, for this one",
                )
            return
        time.sleep(0.05)
    raise errors.EnvironmentFault(
        f"{session.stack_id}: systemd has not started the next controller; what runs goes on",
        hint=f"journalctl -u gapless-{session.stack_id}",
    )
