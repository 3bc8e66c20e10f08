"""Requests that no honest client sends, refused before they reach anybody. Pure.

HAProxy itself refuses what is malformed and writes the rest anew, so that no server sees two
lengths, two hosts or a line that could be read in two ways. Here is what is well-formed and still
meant to be read differently by the server than by the edge.

Nearly every request is an ordinary one. So one rule finds out whether it is, with tests that are
cheap and rather too strict; what they do not let through is looked at closely by the others, each
of which costs an ordinary request one look at a variable.
"""

from __future__ import annotations

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
UNUSUAL = "{ var(txn.unusual) -m bool }"
_ODD = "{ var(txn.odd) -m bool }"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""What a 405 says instead. Other methods pass, but for those that are refused."""


def for_frontend() -> list[str]:
    """Lines of the public frontend."""
    return [
        f"acl plain-url url -m reg -- {words.quote(PLAIN_URL)}",
        f"acl plain-host req.fhdr(host) -m reg -- {words.quote(PLAIN_HOST)}",
        "acl one-host req.fhdr_cnt(host) 1",
        f"acl long-url url,length gt {LONGEST_URL}",
        # More digits than a number of 64 bits has, and the rest of the connection is its body.
        "acl long-number req.fhdr(content-length) -m len gt 18",
        "acl chunked req.fhdr(transfer-encoding) -m found",
        "acl upgrade req.fhdr(upgrade) -m found",
        # A client that says 2.0 and speaks 1.1 is neither.
        "acl new req.ver 1.1",
        "acl new fc_http_major 2",
        "acl old req.ver 1.0",
        "acl refused-method method CONNECT TRACE TRACK",
        "http-request set-var(txn.unusual) bool(true) unless plain-url !long-url plain-host"
        " one-host new !refused-method !long-number !chunked !upgrade",
        "acl odd-request req.fhdr_cnt(host) gt 1",
        f"acl odd-request req.fhdr(host) -m reg -- {words.quote(ODD_HOST)}",
        f"acl odd-request path -m reg -i -- {words.quote(ODD_PATH)}",
        "acl has-host req.fhdr(host) -m len gt 0",
        "acl url-form url -m reg -i -- '^(/|http(s)?://)'",
        "acl url-form url -m str -- *",
        "http-request set-var(txn.odd) bool(true)"
        f" if {UNUSUAL} odd-request or {UNUSUAL} long-number or {UNUSUAL} !url-form"
        f" or {UNUSUAL} !has-host !old"
        f" or {UNUSUAL} {{ fc_http_major 1 }} !{{ req.ver 1.0 1.1 }}"
        # Chunks are unknown to HTTP/1.0: whoever believes the version reads another body.
        f" or {UNUSUAL} old chunked",
        *refusals.refuse(400, "Bad request", _ODD),
        *refusals.refuse(
            405,
            "Method not allowed",
            f"{UNUSUAL} refused-method",
            {"Allow": ", ".join(METHODS)},
        ),
        *refusals.refuse(414, "URI too long", f"{UNUSUAL} long-url"),
        # X_Forwarded_For is X-Forwarded-For to whoever turns names into variables.
        "http-request del-header _ -m sub",
        # A server that changed its protocol at a client's word would not be overheard any more.
        f"http-request del-header Upgrade if {UNUSUAL} {{ req.hdr(upgrade) -m sub -i h2c }}",
        "http-request del-header HTTP2-Settings",
        # What it names, a server may drop: X-Forwarded-For, say.
        "http-request del-header Connection",
        f"http-request add-header Connection upgrade if {UNUSUAL} upgrade",
    ]
