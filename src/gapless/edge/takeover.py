"""A reload that takes over another HAProxy's listening sockets, the very same ones.

So an address passes from one to the other while both listen, and at no moment nobody does: what
waits in its queue is taken by whoever is left.

At a reload HAProxy's master starts itself anew, by the name that it was started by, and asks the
worker before for its sockets. Here that name leads, once, to a script that has it ask us instead;
the script puts the name right before anything else. We give the worker's sockets and the others.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from gapless.edge import binary, keeper, talk
from gapless.edge import config as conf


@contextlib.contextmanager
def taking(home: Path, run: Path, program: Path, taken: Sequence[keeper.Kept]) -> Iterator[None]:
    """A reload within it inherits these, too; they are let go afterwards. None: as ever.

    ``home`` has the link to ``program``, ``run`` the sockets. Raises EdgeRefused, EnvironmentFault.
    """
    own: tuple[keeper.Kept, ...] = ()
    try:
        if taken:
            own = _own(run / conf.STATS_SOCKET)
            heir = run / conf.HEIR_SOCKET
            if not keeper.offer(heir, [*own, *taken]):
                raise talk.refused("-x", f"nothing can be given at {heir}")
            binary.lead(home, _script(home, program, heir))
        yield
    finally:
        keeper.close([*own, *taken])
        if taken:
            binary.lead(home, program)  # also where the script was never run


def _own(stats: Path) -> tuple[keeper.Kept, ...]:
    try:
        return keeper.ask(stats, lambda _: True)
    except (OSError, ValueError) as error:
        raise talk.refused("_getsocks", str(error)) from None


def _script(home: Path, program: Path, heir: Path) -> Path:
    link, real, place = (shlex.quote(str(one)) for one in (home / binary.LINK, program, heir))
    script = home / binary.SCRIPT
    # Owner-only, and never half of one: what it is called by is led to it later.
    script.unlink(missing_ok=True)
    script.touch(0o700)
    script.write_text(
        f'#!/bin/sh\nln -sfn {real} {link}\nexec {link} "$@" -x {place}\n', encoding="utf-8"
    )
    return script
