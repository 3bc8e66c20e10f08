"""Which pages of other origins may use the answers: what browsers are told about it. Pure.

The edge alone says it, on its own answers too, so that a page can tell a limit from a fault; what
an application says of it is taken away: of two words on one thing browsers believe none.
"""

from __future__ import annotations

from dataclasses import dataclass

from gapless.edge import refusals, spelling, words
from gapless.model import cors as model

FAMILY = "Access-Control-"
_HERE = "{ var(txn.cors) -m bool }"
_PREFLIGHT = "{ var(txn.preflight) -m bool }"


@dataclass(frozen=True, slots=True)
class Cors:
    """As the file has it; ``max_age`` in seconds. ``origins`` empty: any."""

    origins: tuple[str, ...]
    path: str = "/"
    methods: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    expose: tuple[str, ...] = ()
    credentials: bool = False
    max_age: int = 600


def of_table(table: model.Cors | None) -> Cors | None:
    """What the stack file asks for."""
    if table is None:
        return None
    return Cors(
        origins=() if table.origins == (model.ANY,) else table.origins,
        path=table.path,
        methods=table.methods,
        headers=table.headers,
        expose=table.expose,
        credentials=table.credentials,
        max_age=int(table.max_age),
    )


def by_path(cors: Cors | None) -> bool:
    """Whether it asks which path a request is for."""
    return cors is not None and bool(cors.path.rstrip("/"))


def for_frontend(cors: Cors | None) -> list[str]:
    """Lines of the public frontend: questions that browsers ask before a request are answered
    here, before redirects, limits and logins: they carry none, and do nothing."""
    if cors is None:
        return []
    where = " if cors-place" if by_path(cors) else ""
    asked = "METH_OPTIONS { req.fhdr(access-control-request-method) -m found }"
    known = [words.word(one) for one in cors.origins]
    listed = words.acl("cors-origin", "var(txn.origin) -m str", known)
    return [
        *spelling.below("cors-place", cors.path),
        f"http-request set-var(txn.cors) bool(true){where}",
        f"http-request set-var(txn.origin) req.fhdr(origin) if {_HERE}",
        *(listed or ["acl cors-origin var(txn.origin) -m found"]),
        f"http-request set-var(txn.preflight) bool(true) if cors-origin {asked}",
        f"http-request return status 204 if {_PREFLIGHT}",
        *refusals.refuse(
            403, "Origin not allowed", f"{{ var(txn.origin) -m found }} !cors-origin {asked}"
        ),
    ]


def for_answers(cors: Cors | None) -> list[str]:
    """Lines of the public frontend, for all answers."""
    if cors is None:
        return []
    lines = [f"http-after-response del-header {FAMILY} -m beg if {_HERE}"]
    lines += [_set(*one, f"{_HERE} cors-origin") for one in allowed(cors, "%[var(txn.origin)]")]
    lines += [_set(*one, f"cors-origin !{_PREFLIGHT}") for one in exposed(cors)]
    lines += [_set(*one, _PREFLIGHT) for one in preflight(cors)]
    if cors.origins:
        # Also where nobody asked from elsewhere: a cache would give that answer to who does.
        said = "{ res.hdr(vary) -m str -i origin }"
        lines.append(f"http-after-response add-header Vary Origin if {_HERE} !{said}")
    return lines


def allowed(cors: Cors, origin: str) -> list[tuple[str, str]]:
    """Headers of each answer to a page that may have it; ``origin``: how the balancer writes it."""
    found = [(f"{FAMILY}Allow-Origin", origin if cors.origins else model.ANY)]
    return found + ([(f"{FAMILY}Allow-Credentials", "true")] if cors.credentials else [])


def exposed(cors: Cors) -> list[tuple[str, str]]:
    """Headers of answers other than to questions beforehand."""
    return [(f"{FAMILY}Expose-Headers", ", ".join(cors.expose))] if cors.expose else []


def preflight(cors: Cors) -> list[tuple[str, str]]:
    """Headers of the answer to a question beforehand."""
    lists = {"Methods": cors.methods, "Headers": cors.headers}
    found = [(f"{FAMILY}Allow-{what}", ", ".join(one)) for what, one in lists.items() if one]
    return [*found, (f"{FAMILY}Max-Age", str(int(cors.max_age)))]


def _set(name: str, value: str, condition: str) -> str:
    return f"http-after-response set-header {name} {words.quote(value)} if {condition}"
