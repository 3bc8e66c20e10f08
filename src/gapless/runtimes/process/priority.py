"""Who gives way: a booting replica must not make its serving siblings slow.

Each program is a session of its own, so the kernel's autogroups share the cpu among programs and
not among threads; the weight of such a group may be lowered *and raised again* without any
privilege. Where autogroups do not apply (they are off, or a cgroup has a cpu controller), the
priority of the process group is used, which only root can raise again, so only root lowers it.

A low weight is not all. Whoever wakes looks for a processor that is idle, finds none while
somebody boots there, and queues behind another that serves. A processor that runs nothing but
programs of the policy SCHED_IDLE counts as idle. Only root may leave that policy again, so only
root's programs get it. Root in a container mostly may not: who may is found out by doing it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from pathlib import Path

BACKGROUND = 10
"""Nice value of what has no clients yet: about a tenth of the weight of what has."""
NORMAL = 0
AHEAD = -10
"""Nice value of what only measures; the machine lets root alone give it."""

TRIES, PAUSE = 50, 0.1
"""For ordinary users the kernel changes one autogroup in a tenth of a second in all."""


def give_way(leader: int, on: bool, *, idle: bool = True) -> None:
    """Put the session led by ``leader`` behind what serves, or back.

    ``idle``: by policy as well. Not for what may hold a lock that others wait for: on a machine
    that is busy to the brim, and shares out by cgroups, that would hardly ever run.
    """
    set_group(leader, BACKGROUND if on else NORMAL)
    if idle and may_raise():
        _set_policy(leader, os.SCHED_IDLE if on else os.SCHED_OTHER)


@functools.cache
def may_raise() -> bool:
    """Whether a thread of ours comes back from where it gave way. One is spent on it."""
    came_back = False

    def attempt() -> None:
        nonlocal came_back
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
            came_back = True

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    return came_back


def _set_policy(leader: int, policy: int) -> None:
    """For all threads of the session; those made later inherit it."""
    done: set[int] = set()
    while fresh := _threads(leader) - done:  # one is made while we look, by one not yet told
        for thread in fresh:
            with contextlib.suppress(OSError):  # it has ended, or is somebody else's by now
                os.sched_setscheduler(thread, policy, os.sched_param(0))
        done |= fresh


def _threads(leader: int) -> set[int]:
    found: set[int] = set()
    for process in Path("/proc").glob("[1-9]*"):
        with contextlib.suppress(OSError):
            if os.getsid(int(process.name)) == leader:
                found.update(int(thread.name) for thread in process.joinpath("task").iterdir())
    return found


def set_group(pid: int, nice: int) -> None:
    """Give the session led by ``pid`` that nice value, as far as the machine lets us.

    Blocks: for an ordinary user a tenth of a second for each change that others make meanwhile.
    """
    for _ in range(TRIES):
        try:
            Path(f"/proc/{pid}/autogroup").write_text(str(nice))
        except BlockingIOError:
            time.sleep(PAUSE)
        except OSError:
            break
        else:
            break
    if may_raise():
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PGRP, pid, nice)
