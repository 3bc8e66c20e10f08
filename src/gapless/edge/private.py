"""Pages that not everybody may see: addresses, logins, and how often one may guess. Pure.

Who the client is, is found out once. A place is guarded where requests come in, by the path as
applications read it: services and files alike. A service is guarded where its requests end up, in
its own backend: whichever route leads there, none forgets the guard.

Of a password the edge has a keyed digest. A slow one (``userlist``) would keep a whole thread of
HAProxy busy for milliseconds with each request; that this one is fast is made good by passwords
that are long, and by the few guesses that an address has.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gapless.edge import limits, refusals, spelling, words
from gapless.model import private as model

_PLACE = "txn.place"
"""The number of the nearest place that a request is for; 0 for one that is open again."""
_HTTPS = "{ var(txn.https) -m bool }"
_BASIC = "{ var(txn.basic) -m bool }"
_SPENT = "{ var(txn.spent) -m bool }"


@dataclass(frozen=True, slots=True)
class Login:
    """``secret``: the name of the password. Without a digest nobody is let in as that user."""

    user: str
    secret: str
    key: str = ""
    """Of the digest, in base64."""
    digest: str = ""
    """HMAC-SHA256 of the password, hexadecimal."""


@dataclass(frozen=True, slots=True)
class Guard:
    """Who is let through: a client at one of ``allow`` that logs in, as far as either is asked."""

    allow: tuple[str, ...] = ()
    logins: tuple[Login, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """A path and all below it; without a guard it is open within a guarded one."""

    path: str
    guard: Guard | None


@dataclass(frozen=True, slots=True)
class Private:
    """``claimed``: this edge speaks no TLS; passwords are heard only where a trusted proxy says
    that the client does."""

    places: tuple[Place, ...] = ()
    claimed: bool = False


def guard_of(table: model.Private | None) -> Guard | None:
    """What the stack file asks for; digests are not known yet."""
    if table is None:
        return None
    return Guard(table.allow, tuple(Login(*one) for one in sorted(table.login.items())))


def places_of(table: Mapping[str, model.Private | None]) -> tuple[Place, ...]:
    """By path."""
    return tuple(Place(path, guard_of(one)) for path, one in sorted(table.items()))


def knowing(guard: Guard | None, passwords: Mapping[str, str], stack: str) -> Guard | None:
    """With the digests of those passwords that there are, by name of the secret."""
    if guard is None or not guard.logins:
        return guard
    known = (_digested(one, passwords.get(one.secret), stack) for one in guard.logins)
    return replace(guard, logins=tuple(known))


def _digested(login: Login, password: str | None, stack: str) -> Login:
    """The key is made of the password as well: no two users or stacks have one in common, whoever
    has not the password cannot prepare anything, and the same password is the same text."""
    if not password:
        return replace(login, key="", digest="")
    secret = password.encode()
    key = hmac.digest(secret, f"gapless login\0{stack}\0{login.user}".encode(), "sha256")
    digest = hmac.digest(key, secret, "sha256")
    return replace(login, key=base64.b64encode(key).decode(), digest=digest.hex())


def needed(private: Private, guards: Sequence[Guard | None]) -> bool:
    """Whether anybody logs in anywhere; ``guards``: of the services."""
    return bool(_logins(private, guards))


def for_frontend(
    private: Private, guards: Sequence[Guard | None], counting: limits.Limits, realm: str
) -> list[str]:
    """Lines of the public frontend. ``realm``: what browsers show to who is asked to log in."""
    logins = _logins(private, guards)
    lines = _who(logins, private, counting) if logins else []
    ordered = sorted(private.places, key=lambda place: (len(place.path.rstrip("/")), place.path))
    for number, place in enumerate(ordered, 1):
        lines += spelling.below(f"place-{number}", place.path, flags=["-i"])
        where = f" if place-{number}" if place.path.rstrip("/") else ""
        # The longest path is looked at last, and stands.
        mark = 0 if place.guard is None else number
        lines.append(f"http-request set-var({_PLACE}) int({mark}){where}")
    for number, place in enumerate(ordered, 1):
        if place.guard is not None:
            here = f"{{ var({_PLACE}) -m int {number} }}"
            asked = _Asked(f"private-{number}", here, logins, private.claimed, realm)
            lines += _guarded(place.guard, asked)
    if any(place.guard is not None for place in ordered):
        lines += _unshared(f"{{ var({_PLACE}) -m int gt 0 }}")
    return lines


def for_backend(
    guard: Guard | None, private: Private, guards: Sequence[Guard | None], realm: str, public: str
) -> list[str]:
    """Lines of a service's backend. ``public``: the frontend from which it is guarded: what other
    services of the stack ask comes in by another one."""
    if guard is None:
        return []
    here = f"{{ fe_name -m str -- {words.identifier(public)} }}"
    asked = _Asked("private", here, _logins(private, guards), private.claimed, realm)
    return [*_guarded(guard, asked), *_unshared(here)]


def _logins(private: Private, guards: Sequence[Guard | None]) -> list[Login]:
    """All there are, each once, always in the same order."""
    every = [*(place.guard for place in private.places), *guards]
    found = {login for guard in every if guard is not None for login in guard.logins}
    return sorted(found, key=lambda login: (login.user, login.secret))


def _who(logins: Sequence[Login], private: Private, counting: limits.Limits) -> list[str]:
    """Who the client is, for all requests: browsers send a password beyond the place that asked
    for it, and no application is to hear it.

    Where guesses are used up nothing is looked at any more: neither a guard nor an application
    that answers differently then tells whether one is right.
    """
    slot = limits.login_slot(counting)
    ours = [words.word(user) for user in sorted({login.user for login in logins})]
    asked = "{ req.hdr(authorization) -m beg -i -- 'basic ' }"
    lines = []
    if private.claimed:
        told = "{ var(txn.proxied) -m bool } { req.fhdr(X-Forwarded-Proto) -m str https }"
        lines.append(f"http-request set-var(txn.https) bool(true) if {told}")
        asked += f" {_HTTPS}"
    lines += [
        f"http-request set-var(txn.basic) bool(true) if {asked}",
        *words.acl("edge-user", "http_auth_user -m str", ours),
        f"http-request track-sc{slot} {words.quote(limits.ADDRESS)} table {limits.LOGINS}"
        f" if {_BASIC}",
        f"http-request set-var(txn.spent) bool(true)"
        f" if {_BASIC} {{ sc_gpc0_rate({slot}) ge {limits.GUESSES} }}",
    ]
    for number, login in enumerate(logins, 1):
        if login.digest:
            user = f"{{ http_auth_user -m str -- {words.word(login.user)} }}"
            given = words.quote(f"http_auth_pass,hmac(sha256,{login.key})")
            right = f"{{ {given} -m bin -- {words.identifier(login.digest)} }}"
            lines.append(
                f"http-request set-var({_login(number)}) bool(true)"
                f" if {_BASIC} !{_SPENT} {user} {right}"
            )
    known = _known("logged-in", logins, logins)
    return [
        *lines,
        *known,
        f"http-request sc-inc-gpc0({slot}) if {_BASIC} !{_SPENT} edge-user !logged-in",
        "http-request del-header Authorization if logged-in",
    ]


def _login(number: int) -> str:
    return f"txn.login_{number}"


def _known(name: str, allowed: Sequence[Login], logins: Sequence[Login]) -> list[str]:
    """Lines of an acl: one of them logged in."""
    numbers = [number for number, login in enumerate(logins, 1) if login in allowed]
    return [f"acl {name} var({_login(number)}) -m bool" for number in numbers]


@dataclass(frozen=True, slots=True)
class _Asked:
    """``name`` of a guard, ``here``: a test of what it is for. ``logins``: all that there are."""

    name: str
    here: str
    logins: Sequence[Login]
    claimed: bool
    realm: str


def _guarded(guard: Guard, asked: _Asked) -> list[str]:
    here, name = asked.here, asked.name
    lines = []
    if guard.allow:
        lines += words.networks(name, guard.allow)
        lines += refusals.refuse(403, "Forbidden", f"{here} !{name}")
    if not guard.logins:
        return lines
    if asked.claimed:
        lines += refusals.refuse(403, "Only by HTTPS", f"{here} !{_HTTPS}")
    realm = words.identifier(asked.realm, what="stack name")
    return [
        *lines,
        *refusals.refuse(
            429,
            "Too many wrong logins",
            f"{here} {_SPENT}",
            {"Retry-After": f"{limits.GUESS_WINDOW:.0f}"},
        ),
        *_known(f"{name}-login", guard.logins, asked.logins),
        *refusals.refuse(
            401,
            "Login required",
            f"{here} !{name}-login",
            {"WWW-Authenticate": f'Basic realm="{realm}", charset="UTF-8"'},
        ),
    ]


def _unshared(here: str) -> list[str]:
    """What only some may see is kept by no cache that others ask, whatever the application says."""
    said = "{ res.hdr(cache-control) -m str -i no-store }"
    return [f"http-after-response set-header Cache-Control 'private, no-cache' if {here} !{said}"]
