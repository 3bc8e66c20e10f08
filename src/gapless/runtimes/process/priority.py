"""Who gives way: a booting replica must not make its serving siblings slow.

Each program is a session of its own, so the kernel's autogroups share the cpu among programs and
not among threads; the weight of such a group may be lowered *and raised again* without any
privilege. Where autogroups do not apply (they are off, or a cgroup has a cpu controller), the
priority of the process group is used, which only root can raise again, so only root lowers it.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

BACKGROUND = 10
"""Nice value of what has no clients yet: about a tenth of the weight of what has."""
NORMAL = 0
AHEAD = -10
"""Nice value of what only measures; the machine lets root alone give it."""

TRIES, PAUSE = 50, 0.1
"""For ordinary users the kernel changes one autogroup in a tenth of a second in all."""


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
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PGRP, pid, nice)
