"""Requests that no honest client sends, refused before they reach anybody. Pure.

HAProxy itself refuses what is malformed and writes the rest anew, so that no server sees two
lengths, two hosts or a line that could be read in two ways. Here is what is well-formed and still
meant to be read differently by the server than by the edge.
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
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""What a 405 says instead. Other methods pass, but for those that are refused."""


def for_frontend() -> list[str]:
    """Lines of the public frontend."""
    bad = "Bad request"
    return [
        # Two of them, and a request is for one host here and for another one there.
        "acl odd-request req.fhdr_cnt(host) gt 1",
        f"acl odd-request req.fhdr(host) -m reg -- {words.quote(ODD_HOST)}",
        f"acl odd-request path -m reg -i -- {words.quote(ODD_PATH)}",
        # More digits than a number of 64 bits has, and the rest of the connection is its body.
        "acl odd-request req.fhdr(content-length) -m len gt 18",
        "acl has-host req.fhdr(host) -m len gt 0",
        "acl url-form url -m reg -i -- '^(/|http(s)?://)'",
        "acl url-form url -m str -- *",
        *refusals.refuse(400, bad, "odd-request"),
        *refusals.refuse(400, bad, "!url-form"),
        *refusals.refuse(400, bad, "!has-host !{ req.ver 1.0 }"),
        *refusals.refuse(400, bad, "{ fc_http_major 1 } !{ req.ver 1.0 1.1 }"),
        # Chunks are unknown to HTTP/1.0: whoever believes the version reads another body.
        *refusals.refuse(400, bad, "{ req.ver 1.0 } { req.hdr(transfer-encoding) -m found }"),
        *refusals.refuse(
            405,
            "Method not allowed",
            "{ method CONNECT TRACE TRACK }",
            {"Allow": ", ".join(METHODS)},
        ),
        *refusals.refuse(414, "URI too long", f"{{ url,length gt {LONGEST_URL} }}"),
        # X_Forwarded_For is X-Forwarded-For to whoever turns names into variables.
        "http-request del-header _ -m sub",
        # A server that changed its protocol at a client's word would not be overheard any more.
        "http-request del-header Upgrade if { req.hdr(upgrade) -m sub -i h2c }",
        "http-request del-header HTTP2-Settings",
        # What it names, a server may drop: X-Forwarded-For, say.
        "http-request del-header Connection if !{ req.hdr(upgrade) -m found }",
        "http-request set-header Connection upgrade if { req.hdr(upgrade) -m found }",
    ]
