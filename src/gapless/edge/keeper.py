"""An HAProxy's listening sockets, held by us too: while it is dead, connections wait for the next.

HAProxy gives copies to whoever may steer it (``expose-fd listeners``), and takes them from
whoever answers at ``-x``: so does one of its processes inherit from another, and we pass on from
the one that has died to the next. Kept are addresses of the network, and where the front comes in:
at another Unix socket that nobody serves, we ourselves would wait.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gapless.edge import shared, words

ASK = b"_getsocks\n"
BATCH = 252
"""Sockets that HAProxy sends in one message; who has more keeps none."""
PATIENCE = 5.0
LONGEST = 10.0
"""Seconds for which an edge may be dead. Longer, and it is kinder to refuse than to let wait."""
_FRESH = bytes(6)
"""What there is to say of one that has neither namespace nor interface nor options."""
_COUNT = struct.Struct("i")


@dataclass(frozen=True, slots=True)
class Kept:
    """One socket, and what HAProxy wants to be told with it."""

    handle: int
    words: bytes


class Keeper:
    """Holds the sockets of one worker at a time. Blocking: each call is a few milliseconds."""

    def __init__(self) -> None:
        self.worker: int | None = None
        """Whose they are; None: none are held."""
        self.kept: tuple[Kept, ...] = ()
        self.wanted = True
        """Whether the edge is to live on."""
        self._alone_since: float | None = None

    def take(self, worker: int, stats: Path) -> None:
        """Copies of this worker's sockets, instead of those of the one before.

        A worker that does not give them costs nothing but what is refused while it is dead.
        """
        fresh: tuple[Kept, ...] = ()
        with contextlib.suppress(OSError, ValueError):
            fresh = ask(stats, lasting)
        self.drop()
        self.worker, self.kept = worker, fresh

    def passes_on(self) -> tuple[Kept, ...]:
        """What the next one is to be given: from now on it is wanted."""
        self.wanted = True
        return self.kept

    def drop(self) -> None:
        """Let go of all."""
        close(self.kept)
        self.worker, self.kept, self._alone_since = None, (), None

    def serves(self) -> None:
        """The edge lives."""
        self._alone_since = None

    def alone(self) -> None:
        """It does not: from now on there is an end to the patience of who connects."""
        now = time.monotonic()
        if self._alone_since is None:
            self._alone_since = now
        elif now - self._alone_since > LONGEST:
            self.drop()

    def offer(self, path: Path) -> bool:
        """``offer`` what is held; False: nothing is."""
        return offer(path, self.kept)


def listen(addresses: Iterable[str], listener: Callable[[str], socket.socket]) -> tuple[Kept, ...]:
    """New sockets there, as if an HAProxy had had them. ``listener`` makes one; raises what it
    does, and then none is left."""
    made: list[Kept] = []
    try:
        made += (Kept(listener(address).detach(), _FRESH) for address in addresses)
    except BaseException:
        close(made)
        raise
    return tuple(made)


def offer(path: Path, kept: Sequence[Kept], heir: int | None = None) -> bool:
    """Give these at ``path``, once, to an HAProxy told of it by ``-x``; False: nothing was offered.

    ``heir``: whom that socket is to belong to; None: us.

    They stay whose they are: what is given are copies.
    """
    if not kept:
        return False
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    copies: list[Kept] = []
    try:
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
            if heir is not None:
                os.chown(path, heir, heir, follow_symlinks=False)
        finally:
            os.umask(before)
        listener.listen(1)
        # Of their own: these may be let go meanwhile.
        copies += (Kept(os.dup(one.handle), one.words) for one in kept)
    except OSError:
        listener.close()
        close(copies)
        return False
    # A thread: HAProxy waits a second for the answer, however busy our loop is.
    threading.Thread(target=_give, args=(listener, path, copies), daemon=True).start()
    return True


def close(kept: Iterable[Kept]) -> None:
    """Let go of these."""
    for one in kept:
        os.close(one.handle)


def at(kept: Iterable[Kept], address: str) -> tuple[Kept, ...]:
    """Those that listen at an address, as ``words.bind`` has it."""
    host, _, port = words.bind(address).rpartition(":")
    everywhere = {"*": "0.0.0.0"}  # noqa: S104  # compared only
    wanted = (everywhere.get(host, host.strip("[]")), int(port))
    return tuple(one for one in kept if _name(one.handle) == wanted)


def of_network(handle: int) -> bool:
    """Whether a listening socket is one of IPv4 or IPv6."""
    return isinstance(_name(handle), tuple)


def lasting(handle: int) -> bool:
    """Whether others come to it, who are to wait while its HAProxy is dead."""
    name = _name(handle)
    return isinstance(name, tuple) or Path(name).name.startswith(shared.DOORS)


def _name(handle: int) -> tuple[str, int] | str:
    """Host and port, or the path of a Unix socket (as it was bound: HAProxy renames it then)."""
    with socket.socket(fileno=os.dup(handle)) as one:
        name = one.getsockname()
        return name[:2] if isinstance(name, tuple) else os.fsdecode(name)


def given(stats: Path, addresses: Iterable[str]) -> tuple[Kept, ...]:
    """Copies of the sockets at these addresses; none where nobody has them, or nobody answers."""
    try:
        asked = ask(stats)
    except (OSError, ValueError):
        return ()
    wanted = tuple(one for address in addresses for one in at(asked, address))
    close(one for one in asked if one not in wanted)
    return wanted


def ask(stats: Path, worth: Callable[[int], bool] = of_network) -> tuple[Kept, ...]:
    """Copies of the sockets that are worth it. Raises OSError, ValueError."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(str(stats))
        client.sendall(ASK)
        (count,) = _COUNT.unpack(_exactly(client, _COUNT.size))
        if not 0 < count <= BATCH:
            raise ValueError(f"{count} sockets")
        # Ours alone: what we start must not hold a port open.
        flags = socket.MSG_CMSG_CLOEXEC
        words, handles, _, _ = socket.recv_fds(client, 1 << 20, BATCH, flags)
        with contextlib.suppress(OSError):
            client.sendall(_COUNT.pack(0))
    found = [Kept(handle, said) for handle, said in zip(handles, split(words), strict=False)]
    for handle in handles[len(found) :]:
        os.close(handle)
    if len(found) != count:
        close(found)
        raise ValueError(f"{len(found)} of {count} sockets")
    kept = []
    for one in found:
        if worth(one.handle):
            kept.append(one)
        else:
            os.close(one.handle)
    return tuple(kept)


def split(words: bytes) -> list[bytes]:
    """What is said of each socket: two texts behind their lengths, and four bytes of nothing."""
    found, at = [], 0
    while at < len(words):
        end = at + 1 + words[at]
        if end >= len(words):
            break
        end += 1 + words[end] + 4
        if end > len(words):
            break
        found.append(words[at:end])
        at = end
    return found


def _exactly(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = client.recv(size - len(data))
        if not more:
            raise ValueError("no answer")
        data += more
    return data


def _give(listener: socket.socket, path: Path, kept: list[Kept]) -> None:
    try:
        with contextlib.suppress(OSError, ValueError), listener:
            listener.settimeout(PATIENCE)
            client, _ = listener.accept()
            with client:
                client.settimeout(PATIENCE)
                if _exactly(client, len(ASK)) != ASK:
                    return
                client.sendall(_COUNT.pack(len(kept)))
                said = b"".join(one.words for one in kept)
                socket.send_fds(client, [said], [one.handle for one in kept])
                client.recv(_COUNT.size)
    finally:
        close(kept)
        path.unlink(missing_ok=True)
