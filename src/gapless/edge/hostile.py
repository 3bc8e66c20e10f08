"""Requests that no honest client sends, refused before they reach anybody. Pure.

HAProxy itself refuses what is malformed and writes the rest anew, so that no server sees two
lengths, two hosts or a line that could be read in two ways. Here is what is well-formed and still
meant to be read differently by the server than by the edge.

Nearly every request is an ordinary one, at an ordinary time. So one rule finds out whether it is,
with tests that are cheap and rather too strict; what they do not let through is looked at closely
by the others. Where no ordinary request has a rule of its own to pass, it leaves the list there
(``LEAVE``); elsewhere each of the others costs it one look at a variable. Where nobody has found
out, a request is no ordinary one.
"""

from __future__ import annotations

from collections.abc import Sequence

from gapless.edge import refusals, words

LONGEST_URL = 8_192
"""Bytes of path and query."""
_SEPARATOR = r"([/\\]|%(25)*(2f|5c))"
_DOT = r"(\.|%(25)*2e|%c0%ae)"
ODD_PATH = (
    # Up a folder, in any spelling and however often encoded.
    rf"(^|{_SEPARATOR}){_DOT}{{2}}({_SEPARATOR}|;|%3b|$)"
    # The end of a string, or of a line, for whoever decodes; a slash in too many bytes.
    r"|%(00|0a|0d)|%c0%af"
    # What a URL does not hold at all.
    r"|[\x00-\x20\x7f\\]"
)
ODD_HOST = r"[^A-Za-z0-9._:\[\]-]"
PLAIN_HOST = r"^[A-Za-z0-9._:\[\]-]+$"
_PLAIN = r"[!-$&-\-/->@-\[\]-~]"
PLAIN_URL = (
    # Nothing encoded in the path, no backslash, no two dots in a row.
    rf"^/{_PLAIN}*(\.{_PLAIN}+)*\.?(\?|$)"
)
USUAL = "{ var(txn.usual) -m bool }"
UNUSUAL = f"!{USUAL}"
"""Stands before what matters to few requests. Tests of patterns take locks that all threads share;
this one takes none."""
LEAVE = f"http-request allow if {USUAL}"
"""Of the rules behind it, in the same section, none is for ordinary requests."""
STRIPPED = ("http2-settings", "[^,]*_[^,]*")
"""Names of headers that go no further: a server that changed its protocol at a client's word would
not be overheard any more, and X_Forwarded_For is X-Forwarded-For to whoever turns names into
variables."""
TELLING = ("content-length", "transfer-encoding", "upgrade", "host,([^,]*,)*host")
"""Names (of all headers, with commas between) for which a request is looked at closely."""
_ODD = "{ var(txn.odd) -m bool }"
UNCONNECTED = "http-request del-header Connection"
"""What it names, a server may drop: X-Forwarded-For, say."""
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""What a 405 says instead. Other methods pass, but for those that are refused."""


_LONG_URL = f"acl long-url url,length,div({LONGEST_URL + 1}) -m bool"
_REFUSED_METHOD = "acl refused-method method CONNECT TRACE TRACK"
BACKEND = "_refused"


def telling(stripped: Sequence[str]) -> str:
    """An expression for the names of all headers together, with commas between."""
    return f"(^|,)({'|'.join([*TELLING, *STRIPPED, *stripped])})(,|$)"


def usual(stripped: Sequence[str], times: Sequence[str]) -> list[str]:
    """Finds out whether a request is ordinary. ``stripped``: more names of headers that go no
    further, as expressions; ``times``: acls that hold at times that are not ordinary."""
    return [
        f"acl plain-url url -m reg -- {words.quote(PLAIN_URL)}",
        f"acl plain-host req.fhdr(host) -m reg -- {words.quote(PLAIN_HOST)}",
        f"acl telling req.hdr_names -m reg -i -- {words.quote(telling(stripped))}",
        _LONG_URL,
        # A client that says 2.0 and speaks 1.1 is neither.
        "acl new req.ver 1.1",
        "acl new fc_http_major 2",
        # GET and HEAD: what may be tried again, and has no body.
        "http-request set-var(txn.usual) bool(true) if METH_GET plain-url plain-host new !telling"
        f" !long-url{''.join(f' !{one}' for one in times)}",
    ]


def for_frontend(stripped: Sequence[str]) -> list[str]:
    """Lines of the public frontend, after ``usual``."""
    names = "|".join([*STRIPPED, *stripped])
    return [
        _REFUSED_METHOD,
        # More digits than a number of 64 bits has, and the rest of the connection is its body.
        "acl long-number req.fhdr(content-length) -m len gt 18",
        "acl old req.ver 1.0",
        "acl upgrade req.fhdr(upgrade) -m found",
        "acl odd-request req.fhdr_cnt(host) gt 1",
        f"acl odd-request req.fhdr(host) -m reg -- {words.quote(ODD_HOST)}",
        f"acl odd-request path -m reg -i -- {words.quote(ODD_PATH)}",
        "acl hosted req.fhdr(host) -m len gt 0",
        "acl hosted req.ver 1.0",
        "acl url-form url -m reg -i -- '^(/|http(s)?://)'",
        "acl url-form url -m str -- *",
        "acl spoken fc_http_major 2",
        "acl spoken req.ver 1.0 1.1",
        # Chunks are unknown to HTTP/1.0: whoever believes the version reads another body.
        "acl one-length req.fhdr_cnt(transfer-encoding) 0",
        "acl one-length req.ver 1.1",
        "acl one-length fc_http_major 2",
        f"http-request set-var(txn.odd) bool(true) unless {USUAL}"
        " or !odd-request !long-number url-form hosted spoken one-length"
        " !refused-method !long-url",
        # No rule of the frontend is for it any more: see ``backend``.
        f"http-request allow if {_ODD}",
        f"http-request del-header {words.quote(f'^({names})$')} -m reg if {UNUSUAL}",
        f"http-request del-header Upgrade if {UNUSUAL} {{ req.hdr(upgrade) -m sub -i h2c }}",
        UNCONNECTED,
        f"http-request add-header Connection upgrade if {UNUSUAL} upgrade",
    ]


def rule() -> str:
    """The first rule of where a request goes."""
    return f"use_backend {BACKEND} if {_ODD}"


def backend() -> list[str]:
    """Where requests go that are refused. The rules that say it in so many words are here, so that
    no other request is asked by each of them."""
    return [
        f"backend {BACKEND}",
        _REFUSED_METHOD,
        _LONG_URL,
        *refusals.refuse(
            405, "Method not allowed", "refused-method", {"Allow": ", ".join(METHODS)}
        ),
        *refusals.refuse(414, "URI too long", "long-url"),
        *refusals.refuse(400, "Bad request", _ODD),
    ]
