"""What a server of files answers about one file: type, change, ranges, encodings, closed doors."""

from __future__ import annotations

import gzip
import http.client
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gapless import errors
from gapless.drills import spec as specs

TIMEOUT = 30.0
TYPES = {
    ".css": "text/css",
    ".gif": "image/gif",
    ".html": "text/html",
    ".jpg": "image/jpeg",
    ".js": "text/javascript",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}
"""What a name's ending says of its type; of others nothing is asked."""
TEXT = 1024
"""Bytes from which text has to come compressed to who takes that."""
CLOSED = (
    "/../../../../../../etc/passwd",
    "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/..%2f..%2f..%2f..%2fetc/passwd",
    "/.git/config",
    "/.env",
)
"""Behind a published path: what no answer may be a file for."""


@dataclass(frozen=True, slots=True)
class Published:
    """``path`` of the URL, and the file that is to be served there."""

    path: str
    file: Path


@dataclass(frozen=True, slots=True)
class Answer:
    """``headers`` by lower-case name."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Client:
    """Asks one edge, on a connection for each request."""

    def __init__(self, url: str, host: str | None) -> None:
        self._url, self._name = url, host
        self._host = {} if host is None else {"Host": host}
        self.asked = 0

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """``If_None_Match="x"`` is a header. Raises WorkFailed without an answer."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection = specs.one_connection(self._url, TIMEOUT, name=self._name)
        self.asked += 1
        try:
            connection.request(method, path, headers={**self._host, **named})
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read())
        except (OSError, http.client.HTTPException) as error:
            raise errors.WorkFailed(f"{method} {path}: no answer ({error})") from None
        finally:
            connection.close()


def faults(client: Client, one: Published) -> Iterator[str]:
    """What is wrong with the answers about one file."""
    content = one.file.read_bytes()
    plain = client.ask(one.path, Accept_Encoding="identity")
    if plain.status != 200 or plain.body != content:
        yield f"{one.path}: {plain.status}, {len(plain.body)} bytes of {len(content)}"
        return
    wanted = TYPES.get(one.file.suffix)
    kind = plain.headers.get("content-type", "")
    if wanted is not None and kind.partition(";")[0] != wanted:
        yield f"{one.path}: is said to be {kind or 'nothing'}, not {wanted}"
    if "cache-control" not in plain.headers:
        yield f"{one.path}: nothing says for how long it may be kept"
    head = client.ask(one.path, "HEAD", Accept_Encoding="identity")
    if head.status != 200 or head.body or head.headers.get("etag") != plain.headers.get("etag"):
        yield f"{one.path}: HEAD answers {head.status} and {len(head.body)} bytes"
    tag = plain.headers.get("etag", "")
    same = client.ask(one.path, If_None_Match=tag, Accept_Encoding="identity")
    if not tag or same.status != 304 or same.body:
        yield f"{one.path}: asked whether it has changed, {same.status} and not 304"
    if content:
        part = client.ask(one.path, Range="bytes=0-0", Accept_Encoding="identity")
        if part.status != 206 or part.body != content[:1]:
            yield f"{one.path}: asked for its first byte, {part.status} with {len(part.body)}"
    yield from _encoded(client, one, content, kind)


def _encoded(client: Client, one: Published, content: bytes, kind: str) -> Iterator[str]:
    answer = client.ask(one.path, Accept_Encoding="gzip")
    coded = answer.headers.get("content-encoding", "")
    try:
        body = gzip.decompress(answer.body) if coded == "gzip" else answer.body
    except (OSError, EOFError, zlib.error):
        body = b""
    if body != content:
        yield f"{one.path}: compressed ({coded or 'not'}), it is another file"
    is_text = kind.startswith("text/") or one.file.suffix in (".json", ".svg")
    if is_text and len(content) >= TEXT and coded != "gzip":
        yield f"{one.path}: {len(content):,} bytes of text are not compressed"


def open_doors(client: Client, path: str) -> Iterator[str]:
    """What answers below a published path that must not. Clients may write any path."""
    stem = path.rstrip("/")
    for closed in CLOSED:
        answer = client.ask(stem + closed)
        if answer.status < 400 and (b"root:" in answer.body or closed.startswith("/.")):
            yield f"{stem}{closed}: {answer.status}"
