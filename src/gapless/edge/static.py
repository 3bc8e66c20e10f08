"""How requests for files reach the server of files, and what is kept of it in memory. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gapless.edge import words

BACKEND = "_static"
DATA = "_static-data"
"""The same server, for what is compressed already: no filter looks at it."""
BACKENDS = (BACKEND, DATA)
PACKED = (
    "aac apng avif br bz2 epub flac gif glb gz ico jpeg jpg jxl m4a m4v mov mp3 mp4 oga ogg ogv"
    " opus pdf png webm webp woff woff2 xz zip zst"
)
"""Endings of such names."""
HOST = "files"
"""What the server of files is called as while nobody has said which files it serves; then by the
digest of its configuration. A client's own word for the host stays at the edge."""
KEEP = "Gapless-Keep"
"""The header with which it says that an answer is of just that configuration, and will not change
while that is in force."""
CACHE_MEGABYTES = 64
CACHE_OBJECT = 512 * 1024
"""Bytes of the largest file that is kept: to copy larger ones costs as much as to ask nginx."""
CACHE_SECONDS = 60
"""For so long."""
PIPES = 64
"""Larger files go from nginx to so many clients at a time without a copy, to others with one."""
PIPE = 256 * 1024
"""Bytes of one: what nginx writes at once at most."""
DESCRIPTORS = 2 * PIPES
"""That the pipes take."""


@dataclass(frozen=True, slots=True)
class Static:
    """``paths``: where folders are published. ``socket``: of the server of files."""

    paths: tuple[str, ...] = ()
    socket: str = ""


def for_global(static: Static) -> list[str]:
    """Lines of the section ``global``."""
    # Unless it is told how many, HAProxy sets a pipe aside for every fourth connection.
    return [f"maxpipes {PIPES}", f"tune.pipesize {PIPE}"] if static.paths else []


def rules(static: Static, services: Sequence[str]) -> list[str]:
    """Before the services' own. ``services``: paths of their routes.

    A folder comes before every service but those published below it.
    """
    if not static.paths:
        return []
    lines = [f"acl packed path_end -i -- {' '.join(f'.{end}' for end in PACKED.split())}"]
    for path in sorted(static.paths, key=len, reverse=True):
        if path == "/":
            continue
        inner = sorted({one.rstrip("/") for one in services if one.startswith(f"{path}/")})
        but = [f"!{{ path -m beg -- {words.word(one + '/')} }}" for one in inner]
        but += [f"!{{ path -m str -- {words.word(one)} }}" for one in inner]
        lines.append(f"use_backend {DATA}{words.condition(path, None, *but, 'packed')}")
        lines.append(f"use_backend {BACKEND}{words.condition(path, None, *but)}")
    return lines


def last_rule(static: Static) -> list[str]:
    """After the services': a folder at ``/`` has what nobody else has."""
    if "/" not in static.paths:
        return []
    return [f"use_backend {DATA} if packed", f"use_backend {BACKEND}"]


def backend(static: Static, compression: Sequence[str], known: str) -> list[list[str]]:
    """Sections: what is kept in memory, and the way to the server of files.

    ``known``: the map that says which files are served, as an argument.
    """
    if not static.paths:
        return []
    cache = [
        "cache static",
        f"total-max-size {CACHE_MEGABYTES}",
        f"max-object-size {CACHE_OBJECT}",
        f"max-age {CACHE_SECONDS}",
        "process-vary on",
    ]
    way = _way(static, known)
    filters = ["filter compression", *compression] if compression else []
    return [
        cache,
        [f"backend {BACKEND}", "filter cache static", *filters, *way],
        [f"backend {DATA}", "option splice-response", "filter cache static", *way],
    ]


def _way(static: Static, known: str) -> list[str]:
    """The cache is keyed by host and path, so by the files that are served, and by the path.

    Whoever still answers for other files than those that the request was for says so, or rather
    does not say ``KEEP``, and nothing is kept of it.
    """
    kept = "{ var(txn.keep) -m found }"
    host = words.quote(f"%[str(on),map({known},{HOST})]")
    return [
        "no option http-no-delay",
        # A reload of nginx ends idle connections, also when a request is under way on one.
        "option http-server-close",
        f"http-request set-header Host {host}",
        "http-request disable-l7-retry unless METH_GET",
        "http-request cache-use static if !{ req.hdr(Range) -m found }",
        f"http-response set-var(txn.keep) res.hdr({KEEP})",
        f"http-response del-header {KEEP}",
        f"http-response cache-store static if {kept}",
        # What clients have to ask about each time says so only here: it would not be kept.
        "http-after-response set-header Cache-Control no-cache"
        " unless { res.hdr(Cache-Control) -m found }",
        f"server files {words.quote(f'unix@{static.socket}', what='a socket')}",
    ]


def entry(digest: str) -> str:
    """The map as a file, for a worker that starts. ``digest``: of what is served; "": unknown."""
    return f"on {digest}\n" if digest else ""


def told(answer: str) -> str:
    """Parse the answer to ``show map``: the digest that the edge has been told; "": none."""
    found = re.search(r"^0x[0-9a-f]+ on ([0-9a-f]{16})$", answer, re.MULTILINE)
    return found[1] if found else ""
