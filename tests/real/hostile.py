"""A thousand requests that no honest client sends, always the same ones.

Each is bytes for one connection. ``refused``: no application may see any of it. Otherwise it is
*put right*: an application may see requests of it, and of each byte of them the edge and the
application must think the same; ``hidden`` must not come through at all.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

SEED = 20_240
COUNT = 1_000
HOST = b"edge.test"
LONG = 9_000


@dataclass(frozen=True, slots=True)
class Case:
    """``mark`` is in its path and in everything smuggled, and in no other case's."""

    family: str
    mark: bytes
    data: bytes
    refused: bool
    hidden: tuple[bytes, ...] = ()


Made = tuple[bytes, bool, tuple[bytes, ...]]
Family = Callable[[random.Random, bytes], Made]


def cases() -> list[Case]:
    """All of them, each family as often as the others."""
    chance = random.Random(SEED)
    found: dict[bytes, Case] = {}
    tried = 0
    while len(found) < COUNT:
        for family in FAMILIES:
            tried += 1
            mark = b"m%06d" % tried
            data, refused, hidden = family(chance, mark)
            shape = data.replace(mark, b"")
            if shape not in found and len(found) < COUNT:
                found[shape] = Case(family.__name__.strip("_"), mark, data, refused, hidden)
    return list(found.values())


def _request(
    mark: bytes, *headers: bytes, body: bytes = b"", method: bytes = b"POST", path: bytes = b""
) -> bytes:
    lines = [method + b" /" + (path or mark) + b" HTTP/1.1", b"Host: " + HOST, *headers]
    return b"\r\n".join([*lines, b"", b""]) + body


def _smuggled(mark: bytes) -> bytes:
    return b"GET /smuggled-%s HTTP/1.1\r\nHost: %s\r\n\r\n" % (mark, HOST)


def _some(chance: random.Random, length: int = 8) -> bytes:
    return bytes(chance.choices(b"abcdefghijklmnopqrstuvwxyz0123456789", k=length))


# -- two lengths ---------------------------------------------------------------------------------


def _two_lengths(chance: random.Random, mark: bytes) -> Made:
    one, two = chance.sample(range(100), 2)
    name = chance.choice([b"Content-Length", b"content-length", b"CONTENT-LENGTH"])
    join = chance.choice([b"\r\n" + name + b": ", b", ", b",", b" , "])
    body = _smuggled(mark)
    return _request(mark, b"Content-Length: %d%s%d" % (one, join, two), body=body), True, ()


def _bad_length(chance: random.Random, mark: bytes) -> Made:
    number = chance.randrange(1, 60)
    bad = chance.choice(
        [
            b"+%d" % number,
            b"-%d" % number,
            b"0x%x" % number,
            b"%d %d" % (number, number),
            b"%de1" % number,
            b"%d;" % number,
            b"%d." % number,
            b"%d\x0b" % number,
            b"\x0c%d" % number,
            b"%d,," % number,
            b"9" * (20 + number),
            b'"%d"' % number,
            b"%dL" % number,
        ]
    )
    return _request(mark, b"Content-Length: " + bad, body=_smuggled(mark)), True, ()


def _endless_length(chance: random.Random, mark: bytes) -> Made:
    """More than 64 bits hold: HAProxy takes what is left of some of them, and says that."""
    number = 18_446_744_073_709_551_616 * chance.randrange(1, 30) + chance.randrange(99)
    return _request(mark, b"Content-Length: %d" % number, body=_smuggled(mark)), False, ()


def _length_and_chunks(chance: random.Random, mark: bytes) -> Made:
    """TE wins, as RFC 9112 has it: nobody behind the edge sees the length."""
    both = [b"Content-Length: %d" % chance.randrange(1, 80), b"Transfer-Encoding: chunked"]
    chance.shuffle(both)
    filler = [b"X-%s: %s" % (_some(chance, 5), _some(chance)) for _ in range(chance.randrange(3))]
    body = b"0\r\n\r\n" + _smuggled(mark)
    return _request(mark, *filler, *both, body=body), False, (b"content-length",)


def _bad_coding(chance: random.Random, mark: bytes) -> Made:
    bad = chance.choice(
        [
            b"xchunked",
            b"chunked, identity",
            b"identity, chunked",
            b"chunked, chunked",
            b"gzip",
            b"chunke%s" % _some(chance, 1),
            b"%s, chunked" % _some(chance, 4),
            b"chunked-%s" % _some(chance, 3),
            b'"chunked"',
            b"'chunked'",
            b"chunked\x00",
            b"chunked\x0b",
            b"\x0bchunked",
            b"cow, %s" % _some(chance, 3),
        ]
    )
    more = [b"X-%s: 1" % _some(chance, 4)]
    body = b"0\r\n\r\n" + _smuggled(mark)
    return _request(mark, *more, b"Transfer-Encoding: " + bad, body=body), True, ()


def _hidden_coding(chance: random.Random, mark: bytes) -> Made:
    bad = chance.choice(
        [
            b"Transfer-Encoding : chunked",
            b"Transfer-Encoding\t: chunked",
            b" Transfer-Encoding: chunked",
            b"Transfer-Encoding\x00: chunked",
            b"Transfer-Encoding\xa0: chunked",
            b"Transfer Encoding: chunked",
            b"X: y\rTransfer-Encoding: chunked",
            b": x\r\nTransfer-Encoding: chunked",
        ]
    )
    length = b"Content-Length: %d" % chance.randrange(5, 60)
    more = [b"X-%s: 1" % _some(chance, 4)]
    lines = [bad, length, *more] if bad[:1] != b" " else [*more, length]
    if bad[:1] == b" ":  # the first of all, so that there is nothing it could continue
        head = b"POST /" + mark + b" HTTP/1.1\r\n" + bad + b"\r\nHost: " + HOST + b"\r\n"
        return head + b"\r\n".join([*lines, b"", b"0\r\n\r\n"]) + _smuggled(mark), True, ()
    return _request(mark, *lines, body=b"0\r\n\r\n" + _smuggled(mark)), True, ()


def _old_chunks(chance: random.Random, mark: bytes) -> Made:
    head = b"POST /%s HTTP/1.0\r\nHost: %s\r\nX-%s: 1\r\n" % (mark, HOST, _some(chance, 5))
    coding = chance.choice([b"chunked", b"Chunked", b"CHUNKED"])
    more = b"Transfer-Encoding: " + coding + b"\r\n\r\n0\r\n\r\n"
    return head + more + _smuggled(mark), True, ()


def _bad_chunk(chance: random.Random, mark: bytes) -> Made:
    size = chance.randrange(1, 9)
    data = _some(chance, size)
    bad = chance.choice(
        [
            b"g\r\n%s\r\n" % data,
            b"-%d\r\n%s\r\n" % (size, data),
            b"0x%d\r\n%s\r\n" % (size, data),
            b"+%d\r\n%s\r\n" % (size, data),
            b"\r\n%d\r\n%s\r\n" % (size, data),
            b"fffffffffffffffff%d\r\n%s\r\n" % (size, data),
            b"%d\r\n%sx\r\n" % (size, data),
            b"%d\r\n%s%s" % (size, data, _some(chance, 2)),
            b"%d\x00\r\n%s\r\n" % (size, data),
            b"%dh\r\n%s\r\n" % (size, data),
        ]
    )
    return (
        _request(mark, b"Transfer-Encoding: chunked", body=bad + b"0\r\n\r\n" + _smuggled(mark)),
        True,
        (),
    )


def _trailers(chance: random.Random, mark: bytes) -> Made:
    """They may come through, as trailers: no server takes its lengths from there."""
    trailer = chance.choice([b"Content-Length: 7", b"Host: evil", b"Transfer-Encoding: x"])
    body = b"3\r\n%s\r\n0\r\n%s\r\nX-%s: 1\r\n\r\n" % (_some(chance, 3), trailer, _some(chance, 4))
    return _request(mark, b"Transfer-Encoding: chunked", body=body), False, ()


# -- hosts and targets ---------------------------------------------------------------------------


def _hosts(chance: random.Random, mark: bytes) -> Made:
    other = _some(chance) + b".evil"
    head = b"GET /" + mark + b" HTTP/1.1\r\n"
    bad = chance.choice(
        [
            b"Host: %s\r\nHost: %s\r\n" % (HOST, other),
            b"Host: %s\r\nhost: %s\r\n" % (other, HOST),
            b"Host: %s, %s\r\n" % (HOST, other),
            b"Host: %s@%s\r\n" % (HOST, other),
            b"Host: %s/%s\r\n" % (HOST, other),
            b"Host: %s?%s\r\n" % (HOST, other),
            b"Host: %s %s\r\n" % (HOST, other),
            b"Host: %s#%s\r\n" % (HOST, other),
            b"Host: %s\\%s\r\n" % (HOST, other),
            b"Host: %s%%00%s\r\n" % (HOST, other),
            b"Host: <script>%s\r\n" % other,
            b"Host: \xff%s\r\n" % other,
            b"Host: '%s'\r\n" % other,
            b"Host:\r\nX-Other: %s\r\n" % other,
            b"X-Other: %s\r\n" % other,
        ]
    )
    return head + bad + b"\r\n", True, ()


def _two_targets(chance: random.Random, mark: bytes) -> Made:
    other = _some(chance) + b".evil"
    scheme = chance.choice([b"http", b"https", b"HTTP"])
    head = b"GET %s://%s/%s HTTP/1.1\r\nHost: %s\r\n\r\n" % (scheme, other, mark, HOST)
    return head, True, ()


def _up_and_away(chance: random.Random, mark: bytes) -> Made:
    slash = chance.choice([b"/", b"%2f", b"%2F", b"%5c", b"%5C", b"%252f", b"\\", b"%255c"])
    dots = chance.choice(
        [b"..", b"%2e%2e", b".%2e", b"%2E.", b"%2e%2E", b"%252e%252e", b"%25252e.", b"%c0%ae%C0%ae"]
    )
    depth = chance.randrange(1, 6)
    first = chance.choice([mark, b"static/" + mark, mark + b"/" + _some(chance, 3)])
    end = chance.choice([b"etc/passwd", b"admin", b"gapless.toml", b"..;/x", _some(chance, 4)])
    path = first + slash + (dots + slash) * depth + end
    return _request(mark, method=b"GET", path=path), True, ()


def _odd_bytes(chance: random.Random, mark: bytes) -> Made:
    bad = chance.choice(
        [b"%00", b"%0a", b"%0D", b"%0d%0aX:y", b"%c0%af", b"\\", b"\x00", b"\x01", b"\x7f"]
    )
    path = mark + b"/" + _some(chance, 3) + bad + _some(chance, chance.randrange(4))
    return _request(mark, method=b"GET", path=path), True, ()


def _methods(chance: random.Random, mark: bytes) -> Made:
    bad = chance.choice(
        [b"TRACE", b"TRACK", b"CONNECT", b"GE\x00T", b"G@T", b"GET\x0b", b"G(T", b"{GET}", b""]
    )
    more = b"X-%s: %s" % (_some(chance, 4), _some(chance, 4))
    return _request(mark, more, method=bad), True, ()


def _first_line(chance: random.Random, mark: bytes) -> Made:
    line = chance.choice(
        [
            b"GET /%s HTTP/2.0",
            b"GET /%s HTTP/0.9",
            b"GET /%s http/1.1",
            b"GET /%s HTTP/11",
            b"GET /%s HTTP/1.1x",
            b"GET /%s HTTPS/1.1",
            b"GET /%s FTP/1.1",
            b"GET /%s /x HTTP/1.1",
            b"GET %s HTTP/1.1",
            b"GET /%s HTTP/1.1\x00",
            b"/%s GET HTTP/1.1",
            b"GET /%s",
        ]
    )
    more = b"\r\nHost: %s\r\nX-%s: 1\r\n\r\n" % (HOST, _some(chance, 6))
    return line % mark + more, True, ()


# -- names and values ----------------------------------------------------------------------------


def _names(chance: random.Random, mark: bytes) -> Made:
    bad = chance.choice([b" ", b"\t", b"@", b"(", b"\x00", b"\xe4", b"/", b"=", b"{", b'"', b","])
    name = _some(chance, 3) + bad + _some(chance, chance.randrange(3))
    return _request(mark, name + b": x", method=b"GET"), True, ()


def _values(chance: random.Random, mark: bytes) -> Made:
    bad = chance.choice([b"\x00", b"\r", b"\x00\r", b"a\rb"])
    value = _some(chance, chance.randrange(9)) + bad + _some(chance, 3)
    return _request(mark, b"X-Odd: " + value, method=b"GET"), True, ()


def _underscores(chance: random.Random, mark: bytes) -> Made:
    name = chance.choice(
        [
            b"X_Forwarded_For",
            b"Content_Length",
            b"Transfer_Encoding",
            b"X-Forwarded_Proto",
            b"x_real_ip",
            b"_",
            b"Host_",
        ]
    )
    hidden = b"spoof-" + _some(chance)
    return _request(mark, name + b": " + hidden, method=b"GET"), False, (hidden,)


def _spoofs(chance: random.Random, mark: bytes) -> Made:
    name = chance.choice(
        [
            b"X-Forwarded-For",
            b"X-Forwarded-Host",
            b"X-Forwarded-Proto",
            b"X-Forwarded-Port",
            b"X-Forwarded-Prefix",
            b"x-FORWARDED-client-cert",
            b"X-Real-IP",
            b"X-Request-ID",
            b"HTTP2-Settings",
            b"Forwarded",
            b"Proxy",
        ]
    )
    hidden = b"spoof-" + _some(chance)
    return _request(mark, name + b": " + hidden, method=b"GET"), False, (hidden,)


def _folded(chance: random.Random, mark: bytes) -> Made:
    fold = chance.choice([b"\r\n ", b"\r\n\t", b"\n ", b"\r\n   "])
    value = _some(chance, 3) + fold + _some(chance, 4) + b": " + _some(chance, 3)
    return _request(mark, b"X-Odd: " + value, method=b"GET"), False, (fold,)


def _bare_ends(chance: random.Random, mark: bytes) -> Made:
    first = chance.choice([b"GET /%s HTTP/1.1", b"GET\t/%s\tHTTP/1.1", b"GET  /%s  HTTP/1.1"])
    lines = [first % mark, b"Host: " + HOST, b"X-%s: 1" % _some(chance, 6)]
    ends = [chance.choice([b"\n", b"\r\n"]) for _ in lines]
    ends[chance.randrange(3)] = b"\n"
    text = b"".join(line + end for line, end in zip(lines, ends, strict=True))
    return text + chance.choice([b"\n", b"\r\n"]), False, ()


def _other_protocol(chance: random.Random, mark: bytes) -> Made:
    token = chance.choice([b"h2c", b"H2C", b"h2c, websocket", b"foo,h2c", b"h2c-14"])
    names = chance.choice([b"Upgrade, HTTP2-Settings", b"upgrade", b"Upgrade,keep-alive"])
    settings = b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA" + _some(chance, 2)
    headers = [b"Connection: " + names, b"Upgrade: " + token, settings]
    return _request(mark, *headers, method=b"GET"), False, (b"h2c", b"http2-settings")


# -- too much, too little, something else --------------------------------------------------------


def _too_long(chance: random.Random, mark: bytes) -> Made:
    size = LONG + chance.randrange(20_000)
    more: list[bytes] = []
    path = b""
    kind = chance.randrange(4)
    if kind == 0:
        path = mark + b"/" + b"a" * size
    elif kind == 1:
        path = mark + b"?q=" + b"a" * size
    elif kind == 2:
        more = [b"X-Big: " + b"b" * (size + 8_000)]
    else:
        more = [b"X-%d: 1" % number for number in range(102 + size % 300)]
    return _request(mark, *more, method=b"GET", path=path), True, ()


def _cut_short(chance: random.Random, mark: bytes) -> Made:
    length = chance.randrange(5, 3_000)
    whole = _request(
        mark,
        b"X-%s: %s" % (_some(chance, 4), _some(chance)),
        b"Content-Length: %d" % length,
        body=b"x" * length,
    )
    return whole[: chance.randrange(1, len(whole))], True, ()


def _not_http(chance: random.Random, mark: bytes) -> Made:
    noise = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 300)))
    start = chance.choice(
        [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nGET /%s HTTP/1.1\r\n" % mark,
            b"*1\r\n$4\r\nPING\r\n",
            b"EHLO x\r\n",
            b"\x00" * 9,
            b"",
        ]
    )
    return start + noise + b"\r\n\r\n", True, ()


FAMILIES: tuple[Family, ...] = (
    _two_lengths,
    _bad_length,
    _endless_length,
    _length_and_chunks,
    _bad_coding,
    _hidden_coding,
    _old_chunks,
    _bad_chunk,
    _trailers,
    _hosts,
    _two_targets,
    _up_and_away,
    _odd_bytes,
    _methods,
    _first_line,
    _names,
    _values,
    _underscores,
    _spoofs,
    _folded,
    _bare_ends,
    _other_protocol,
    _too_long,
    _cut_short,
    _not_http,
)


# -- what an application may see -----------------------------------------------------------------


class NotWhole(Exception):
    """The bytes end within a request."""


def requests(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(target, head and body as they came) of each request on one connection to an application.

    Strict: raises ValueError for anything of which two servers could think differently, NotWhole
    where it ends too early.
    """
    while data:
        head, found, rest = data.partition(b"\r\n\r\n")
        if not found:
            raise NotWhole
        target, headers = _head(head)
        _, rest = _body(headers, rest)
        yield target, data[: len(data) - len(rest)]
        data = rest


_NAME = frozenset(b"!#$%&'*+-.^`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def _head(head: bytes) -> tuple[bytes, dict[bytes, list[bytes]]]:
    first, *lines = head.split(b"\r\n")
    words = first.split(b" ")
    if len(words) != 3 or words[2] != b"HTTP/1.1" or not words[0].isalpha():
        raise ValueError(f"first line {first!r}")
    if any(byte in head.replace(b"\r\n", b"") for byte in b"\r\n\0"):
        raise ValueError(f"odd bytes in {head!r}")
    headers: dict[bytes, list[bytes]] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or not set(name) <= _NAME:
            raise ValueError(f"header {line!r}")
        headers.setdefault(name.lower(), []).append(value.strip())
    if len(headers.get(b"host", [])) != 1:
        raise ValueError(f"hosts in {head!r}")
    return words[1], headers


def _body(headers: dict[bytes, list[bytes]], rest: bytes) -> tuple[bytes, bytes]:
    lengths, codings = headers.get(b"content-length", []), headers.get(b"transfer-encoding", [])
    if (lengths and codings) or len(lengths) > 1 or codings not in ([], [b"chunked"]):
        raise ValueError(f"framed twice: {lengths} {codings}")
    if codings:
        return _chunks(rest)
    if lengths and not lengths[0].isdigit():
        raise ValueError(f"length {lengths[0]!r}")
    length = int(lengths[0]) if lengths else 0
    if len(rest) < length:
        raise NotWhole
    return rest[:length], rest[length:]


def _chunks(rest: bytes) -> tuple[bytes, bytes]:
    whole = b""
    while True:
        size, found, rest = rest.partition(b"\r\n")
        if not found:
            raise NotWhole
        length = int(size, 16)
        if len(rest) < length + 2:
            raise NotWhole
        if length == 0:
            break
        if rest[length : length + 2] != b"\r\n":
            raise ValueError("a chunk without an end")
        whole, rest = whole + rest[:length], rest[length + 2 :]
    trailers, found, after = rest.partition(b"\r\n")
    if trailers:
        _, found, after = rest.partition(b"\r\n\r\n")
    if not found:
        raise NotWhole
    return whole, after
