"""Requests that wait at the edge through a short stop, as HAProxy text. Pure.

``hold.lua`` does the waiting (by ``line.lua``); here is what leads to it, and how it is told. The
map that switches it on is looked at before any Lua runs, so that who is not held pays for one
look-up.
"""

from __future__ import annotations

import re

from gapless.edge import config as conf
from gapless.edge import hostile, words
from gapless.model.desired import Hold

MOST = 1_000
"""Requests that wait at most; half the edge's connections where it may have fewer."""
LONGEST_BODY = 1024 * 1024
"""Bytes of a body that a held request may announce. Of whatever it sends, announced or not, the
edge reads no more than a buffer before it lets it go."""
LONGEST = 60.0
"""Seconds that a hold lasts at most: clients give up about then."""
SPARE = 15.0
"""Seconds that the edge is more patient with a client than the longest hold lasts."""
_ENTRY = re.compile(r"0x[0-9a-f]+ on ([0-9.]+)/[0-9.]+")


def script(config: conf.Config) -> list[str]:
    """What the global section says."""
    most = max(1, min(MOST, config.maxconn // 2))
    place = f"{_path(config, conf.HOLD_SCRIPT)} {_path(config, conf.HOLD_MAP)}"
    line = f"lua-load {_path(config, conf.LINE_SCRIPT)}"
    return [line, f"lua-load {place} {most} {LONGEST_BODY}"]


def acl(config: conf.Config) -> list[str]:
    """``held``: whether requests wait now."""
    known = f"str(on),map({words.argument(f'{config.run_dir}/{conf.HOLD_MAP}')})"
    return [f"acl held {words.quote(known)} -m found"]


def rules(config: conf.Config, passes: str) -> list[str]:
    """What the public frontend says. ``passes``: more conditions for being held.

    Maintenance comes first: a page now is worth more than an answer later.
    """
    held = f"{hostile.UNUSUAL} held"
    return [
        f"http-request set-var(txn.gapless_peer) fc_src,hex if {held}",
        f"http-request lua.gapless_hold if {held} !maintenance{passes}",
        "http-request return status 503 content-type 'text/plain'"
        " string 'Too many wait already, try again in a moment'"
        " hdr Retry-After '%[var(txn.gapless_hold)]' hdr Cache-Control 'no-store'"
        " if { var(txn.gapless_hold) -m found }",
    ]


def _path(config: conf.Config, name: str) -> str:
    return words.quote(f"{config.run_dir}/{name}", what="the run directory")


def entry(hold: Hold) -> str:
    """The value of ``on`` in the map."""
    return f"{hold.until:.3f}/{hold.seconds:.3f}"


def text(hold: Hold | None) -> str:
    """The map as a file, for a worker that starts."""
    return "" if hold is None else f"on {entry(hold)}\n"


def until(answer: str, wall: float) -> float | None:
    """Parse the answer to ``show map``: until when requests are held; None: not any more."""
    for line in answer.splitlines():
        if found := _ENTRY.fullmatch(line):
            return float(found[1]) if float(found[1]) > wall else None
    return None
