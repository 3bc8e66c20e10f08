"""The server of files as nginx's configuration. Pure.

Every folder of a mount is looked into, the first that has the file serves it: the folder of the
release in force, then those of the other kept ones. So a page of an older release still finds its
own files. Where a client takes it, ``NAME.br`` or ``NAME.gz`` beside the file is sent instead.

No links, no names that begin with a dot (but ``.well-known``), no listings; nginx itself resolves
what a path means before it is looked up below its folder.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from gapless import errors
from gapless.edge import static

LOOK = "look"
"""The host that answers with the digest of the configuration in force."""
YEAR = 31_536_000
FORMAT = 4
"""Of the text that ``text`` makes of one value: another one needs a reload too."""
OPEN = 512
"""Files that each worker of nginx keeps open of those that cannot change."""

HASHED = (
    # Hexadecimal: a word has no digit, a date no letter.
    r"[-._/](?=[0-9a-f]{0,63}[0-9])(?=[0-9a-f]{0,63}[a-f])[0-9a-f]{8,64}"
    r"(?:\.[A-Za-z0-9]{1,11}){1,2}"
    # Eight characters of what build tools alone make; and no word with a number behind it.
    r"|[-.](?![A-Za-z]+[0-9]+\.)(?=[A-Za-z0-9_]{0,7}[0-9])(?=[A-Za-z0-9_]{0,7}[A-Z])"
    r"[A-Za-z0-9_]{8}\.(?:m?js|css)(?:\.map)?"
)
"""The end of a path whose name holds a hash of its content."""
ENCODED = {"br": "br", "gzip": "gz"}
"""Encodings to what files end in, the better ones first."""
TEXT: Mapping[str, tuple[str, ...]] = {
    "text/javascript": ("js", "mjs"),
    "text/css": ("css",),
    "text/html": ("html", "htm"),
    "application/json": ("json", "map"),
    "image/svg+xml": ("svg",),
    "application/wasm": ("wasm",),
}
"""Types that may lie there compressed already: what applications are made of."""
OTHER: Mapping[str, tuple[str, ...]] = {
    "text/plain": ("txt",),
    "application/xml": ("xml",),
    "application/manifest+json": ("webmanifest",),
    "text/csv": ("csv",),
    "text/markdown": ("md",),
    "application/epub+zip": ("epub",),
    "application/gzip": ("gz",),
    "application/pdf": ("pdf",),
    "application/zip": ("zip",),
    "audio/aac": ("aac",),
    "audio/flac": ("flac",),
    "audio/mp4": ("m4a",),
    "audio/mpeg": ("mp3",),
    "audio/ogg": ("oga", "ogg", "opus"),
    "audio/wav": ("wav",),
    "font/otf": ("otf",),
    "font/ttf": ("ttf",),
    "font/woff": ("woff",),
    "font/woff2": ("woff2",),
    "image/apng": ("apng",),
    "image/avif": ("avif",),
    "image/bmp": ("bmp",),
    "image/gif": ("gif",),
    "image/jpeg": ("jpg", "jpeg"),
    "image/jxl": ("jxl",),
    "image/png": ("png",),
    "image/webp": ("webp",),
    "image/x-icon": ("ico",),
    "model/gltf-binary": ("glb",),
    "text/calendar": ("ics",),
    "text/vtt": ("vtt",),
    "video/mp4": ("mp4", "m4v"),
    "video/ogg": ("ogv",),
    "video/quicktime": ("mov",),
    "video/webm": ("webm",),
}


@dataclass(frozen=True, slots=True)
class Mount:
    """``folders`` lie below ``root`` (absolute), the first that has a file serves it.

    ``cache``: seconds for names without a hash; ``YEAR`` and more: immutable; None: ask each time.
    ``lasting``: no file of these folders changes while they are served, so the edge may keep any.
    """

    path: str
    root: str
    folders: tuple[str, ...]
    index: str = "index.html"
    fallback: str | None = None
    cache: float | None = None
    lasting: bool = False


@dataclass(frozen=True, slots=True)
class Files:
    """Everything that the server of files serves."""

    mounts: tuple[Mount, ...] = ()
    workers: int = 1


def digest(files: Files) -> str:
    """Sixteen hexadecimal characters; "" where nothing is to be served."""
    if not files.mounts:
        return ""
    value = json.dumps(asdict(files), sort_keys=True)
    return hashlib.sha256(f"{FORMAT} {value}".encode()).hexdigest()[:16]


def text(files: Files, socket: str, home: str) -> str:
    """nginx's configuration. ``home``: a folder of its own. Raises UsageError."""
    mounts = sorted(files.mounts, key=lambda mount: len(mount.path), reverse=True)
    lines = [
        "daemon off;",
        f"worker_processes {int(files.workers)};",
        "error_log stderr warn;",
        f"pid {quote(f'{home}/pid')};",
        "events { worker_connections 4096; }",
        "http {",
        *_settings(home),
        *_maps(mounts),
        *_keeps(files, mounts),
        *_look(files, socket),
        "server {",
        # Also what it is called is of its configuration: see _keeps.
        f"listen {quote(f'unix:{socket}')} default_server;",
        f"server_name {static.HOST};",
        r'if ($uri ~ "/\.(?!well-known/)") { return 404; }',
        "error_page 403 404 = @none;",
        'location @none { add_header Cache-Control no-store always; return 404 "Not found\\n"; }',
        "location / { return 404; }" if not any(m.path == "/" for m in mounts) else "",
    ]
    for number, mount in enumerate(mounts):
        lines += _mount(mount, number)
    return "\n".join([*(line for line in lines if line), "}", "}", ""])


def quote(value: str) -> str:
    """One argument of nginx's configuration. Raises UsageError for what quoting cannot hold."""
    if not value.isprintable() or set(value) & set("\"'\\$"):
        raise errors.UsageError(
            f"edge: a path cannot be written into nginx's configuration: {value!r}",
            hint="use a path without quotes, backslashes and dollar signs",
        )
    return f'"{value}"'


def _settings(home: str) -> list[str]:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    charsets = [kind for kind in (*TEXT, *OTHER) if kind.startswith("text/")]
    return [
        *(f"{kind}_temp_path {quote(f'{home}/{kind}')};" for kind in kinds),
        "access_log off;",
        "log_not_found off;",
        "server_tokens off;",
        "sendfile on;",
        # To find a file takes two walks through its folders, each part of the path opened.
        f"open_file_cache max={OPEN} inactive={static.CACHE_SECONDS}s;",
        "absolute_redirect off;",
        "max_ranges 16;",
        "client_max_body_size 1k;",
        "keepalive_timeout 0;",
        "charset utf-8;",
        f"charset_types {' '.join(k for k in charsets if k != 'text/html')}"
        " application/json application/xml application/manifest+json;",
        "default_type application/octet-stream;",
        _types({**TEXT, **OTHER}),
    ]


def _types(types: Mapping[str, Sequence[str]]) -> str:
    known = " ".join(f"{kind} {' '.join(ends)};" for kind, ends in types.items())
    return f"types {{ {known} }}"


def _maps(mounts: Sequence[Mount]) -> list[str]:
    """What is decided by the client's word, and by the name of the file that was found."""
    lines = []
    for encoding, end in ENCODED.items():
        taken = rf"(?:^|,)\s*{encoding}\s*(?:;\s*q=(?:1|0\.\d*[1-9])\d*(?:\.0*)?\s*)?(?:,|$)"
        lines.append(f'map $http_accept_encoding ${end} {{ default ""; "~*{taken}" ".{end}"; }}')
    codings = " ".join(rf'"~\.{end}$" {name};' for name, end in ENCODED.items())
    lines.append(f'map $uri $coding {{ default ""; {codings} }}')
    lines.append(f'map $request_uri $slashed {{ default ""; "{_SLASHED}" "$plain/$query"; }}')
    forever = f'"public, max-age={YEAR}, immutable"'
    lines.append(f'map $uri $hashed {{ default ""; "~{_HASHED_FILE}" {forever}; }}')
    for number, mount in enumerate(mounts):
        other = '""'  # no header: the edge adds it on the way out, and may keep the file
        if mount.cache is not None:
            other = f'"public, max-age={int(mount.cache)}"' if mount.cache < YEAR else forever
        lines.append(f'map $hashed $cache{number} {{ "" {other}; default $hashed; }}')
    return lines


def _keeps(files: Files, mounts: Sequence[Mount]) -> list[str]:
    """Whether the edge may keep an answer: it has asked by the name of these very files, and the
    one that was found cannot change. So it never keeps what another worker of ours, older or
    newer, has said."""
    lines = [f'map $host $asked {{ default ""; {digest(files)} 1; }}']
    for number, mount in enumerate(mounts):
        found = "default $asked;" if mount.lasting else 'default ""; ~immutable$ $asked;'
        lines.append(f"map $cache{number} $keep{number} {{ {found} }}")
    return lines


_SLASHED = r"~^(?<plain>/(?![/\\\\])[^?]*)(?<query>(?:\?.*)?)$"
"""A path as the client wrote it, and with a slash: decoded it might hold anything, and one that
begins with two slashes would lead to another host."""
_HASHED_FILE = rf"(?:{HASHED})(?:\.(?:br|gz))?$"


def _look(files: Files, socket: str) -> list[str]:
    return [
        "server {",
        f"listen {quote(f'unix:{socket}')};",
        f"server_name {LOOK};",
        f'location / {{ default_type text/plain; return 200 "{digest(files)}"; }}',
        "}",
    ]


def _mount(mount: Mount, number: int) -> list[str]:
    prefix = "" if mount.path == "/" else mount.path
    stem = re.escape(prefix)
    place = [f"root {quote(mount.root)};", f"disable_symlinks on {quote(f'from={mount.root}')};"]
    if not mount.lasting:
        place.append("open_file_cache off;")
    said = [
        f"add_header Cache-Control $cache{number};",
        f"add_header {static.KEEP} $keep{number};",
    ]
    page = _typed({"text/html": TEXT["text/html"]})
    shell = [] if mount.fallback is None else _ways(mount, _below(mount.fallback))
    folder, lost = f"@folder{number}", f"@shell{number}" if shell else "=404"
    lines = [f"location {quote(f'{prefix}/')} {{", *place]
    if prefix:
        whole = f'return 308 "{prefix}/$is_args$args";'
        lines.insert(0, f"location = {quote(prefix)} {{ {whole} }}")
    inside = [*_ways(mount, f"${{rel}}{_below(mount.index)[1:]}"), *shell]
    lines += _place(rf"^{stem}(?<rel>/(?:.*/)?)$", [*page, *said], inside)
    for kind, ends in TEXT.items():
        found = rf"^{stem}(?<rel>/.*\.(?:{'|'.join(ends)}))$"
        lines += _place(found, [*_typed({kind: ends}), *said], _ways(mount, "$rel"))
    if shell:
        found = rf"^{stem}(?<rel>/(?:.*/)?[^./]+)$"
        lines += _place(found, [*page, *said], _ways(mount, "$rel"), lost)
    plain = [f"{_below(one)}$rel" for one in mount.folders]
    lines += [*_place(rf"^{stem}(?<rel>/.*)$", said, plain, folder), "}"]
    slash = _slash(mount)
    lines += [f"location {folder} {{", *place, *slash, "return 404;", "}"]
    if shell:
        lines += [f"location {lost} {{", *place, *slash, *page, *said, _try(shell), "}"]
    return lines


def _place(
    found: str, settings: Sequence[str], tried: Sequence[str], otherwise: str = "=404"
) -> list[str]:
    return [f'location ~ "{found}" {{', *settings, _try(tried, otherwise), "}"]


def _try(tried: Sequence[str], otherwise: str = "=404") -> str:
    entries = " ".join(f'"{entry}"' for entry in tried)
    return f"try_files {entries} {otherwise};"


def _ways(mount: Mount, name: str) -> list[str]:
    """A name in each folder, as a client can take it, the better ones first."""
    ends = [*(f"${end}" for end in ENCODED.values()), ""]
    return [f"{_below(folder)}{name}{end}" for folder in mount.folders for end in ends]


def _typed(types: Mapping[str, Sequence[str]]) -> list[str]:
    """What is said of names of these types, encoded or not."""
    return [
        _types({kind: (*ends, *ENCODED.values()) for kind, ends in types.items()}),
        "add_header Content-Encoding $coding;",
        "add_header Vary Accept-Encoding;",
    ]


def _slash(mount: Mount) -> list[str]:
    """A folder that has a page is found with a slash: the page's own links count on it."""
    root = quote(mount.root).strip('"')
    pages = [f'"{root}{_below(one)}${{rel}}{_below(mount.index)}"' for one in mount.folders]
    found = [f"if (-f {page}) {{ return 301 $slashed; }}" for page in pages]
    return ['if ($slashed = "") { return 404; }', *found]


def _below(folder: str) -> str:
    """A folder below the root, as it begins a name to try."""
    if not re.fullmatch(r"[A-Za-z0-9._@+~/-]*", folder) or ".." in folder.split("/"):
        raise errors.UsageError(f"edge: not a possible folder of files: {folder!r}")
    return f"/{folder}" if folder else ""
