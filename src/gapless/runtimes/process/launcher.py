"""What a program is between fork and exec; run by its path as ``python -I -S launcher.py ID``.

Nothing starts before its identity is on disk: the launcher waits on a socket (descriptor 3) for
its orders, and the controller sends them after the record is durable. A controller killed in
between closes the socket, and the launcher ends without having run anything.

The orders are one marshalled dict behind their length in 8 bytes (never in arguments: they hold
secrets). The answer is the socket's end when the program runs, or one line of the reason why not.

With ``exit`` in the orders it stays, as a small process, before the program: it hands on TERM and
INT, enforces the timeout, and writes down how the program ended. This works without a controller.

It imports nothing of the package and little of the library, for its start is everybody's start.
"""

from __future__ import annotations

import errno
import marshal
import os
import resource
import signal
import sys
import time

CHANNEL = 3
GRACE = 10.0
"""Seconds between the TERM and the KILL of a job past its timeout."""
PATIENCE = 0.1
DESCRIPTORS = 65536
"""Open files at most: some programs walk over all numbers there may be when they start others."""
_PR_SET_NO_NEW_PRIVS = 38

Orders = dict[str, object]


def receive(count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = os.read(CHANNEL, count - len(data))
        if not chunk:
            # The controller died or thought better of it: nothing has run, nothing will.
            os._exit(0)
        data += chunk
    return data


def refuse(step: str, error: OSError) -> None:
    os.write(CHANNEL, f"{error.errno or 0} {step}: {error.strerror}".encode())
    os._exit(127)


def drop_privileges(uid: int, groups: list[int]) -> None:
    import ctypes

    # In this order: the groups and the gid need the privileges that go with the uid.
    os.setgroups(groups)
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs is not supported")


def become(orders: Orders) -> None:
    """Turn into the program; returns never."""
    argv: list[str] = orders["argv"]  # type: ignore[assignment]
    env: dict[str, str] = orders["env"]  # type: ignore[assignment]
    uid: int | None = orders["uid"]  # type: ignore[assignment]
    groups: list[int] = orders["groups"]  # type: ignore[assignment]
    cwd: str | None = orders["cwd"]  # type: ignore[assignment]
    step = "cannot drop privileges"
    try:
        if uid is not None:
            # Its group is its own, so this opens to others only what lies in a shared folder.
            os.umask(0o002)
            drop_privileges(uid, groups)
        if cwd is not None:
            step = f"cannot enter {cwd}"
            os.chdir(cwd)
        step = f"cannot run {argv[0]}"
        raise_limit()
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            # Python ignores SIGPIPE and others, and what is ignored is inherited.
            if signal.getsignal(number) is not None:
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        execute(argv, env)
    except OSError as error:
        refuse(step, error)


def raise_limit() -> None:
    """As many open files as the hard limit allows: each connection is one.

    What a shell or systemd gives by default (1,024) is for programs that use ``select``.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def execute(argv: list[str], env: dict[str, str]) -> None:
    """Like execvpe, which imports modules late: by now they may be out of reach."""
    failure: OSError = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    folders = [""] if "/" in argv[0] else env.get("PATH", "/usr/bin:/bin").split(":")
    for folder in folders:
        try:
            os.execve(f"{folder}/{argv[0]}" if folder else argv[0], argv, env)  # noqa: S606
        except (FileNotFoundError, NotADirectoryError) as error:
            failure = error if len(folders) == 1 else failure
        except PermissionError as error:
            # A folder that may not be searched is no answer; a file that may not be run is one.
            if len(folders) == 1 or os.access(f"{folder}/{argv[0]}", os.F_OK):
                failure = error
    raise failure


class Keeper:
    """Stands before one job: hands on signals, ends it in time, writes down its end."""

    def __init__(self, orders: Orders) -> None:
        self.path: str = orders["exit"]  # type: ignore[assignment]
        timeout: float | None = orders["timeout"]  # type: ignore[assignment]
        self.timeout = timeout
        self.deadline = None if timeout is None else time.monotonic() + timeout
        self.timed_out = False
        head, tail = os.path.split(self.path)
        self.temporary = os.path.join(head, f".{tail}")  # noqa: PTH118  # pathlib costs 5 ms
        # Room for the end is taken now: the disk may be full when it comes.
        self.handle = os.open(self.temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.set_inheritable(self.handle, False)
        os.write(self.handle, b" " * 128)
        os.fsync(self.handle)
        self.signals = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}
        signal.pthread_sigmask(signal.SIG_BLOCK, self.signals)
        # Only a signal that has a handler is sure to be kept for a waiter.
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def keep(self, child: int) -> int:
        """Wait for the end; the code to end with, as a shell would say it."""
        while True:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                code = os.waitstatus_to_exitcode(status)
                self.write(code)
                return code if code >= 0 else 128 - code
            left = None if self.deadline is None else self.deadline - time.monotonic()
            if left is not None and left <= 0:
                self.overdue(child)
                continue
            if left is None:
                number = signal.sigwait(self.signals)
            else:
                info = signal.sigtimedwait(self.signals, left)
                number = signal.SIGCHLD if info is None else signal.Signals(info.si_signo)
            if number != signal.SIGCHLD:
                os.kill(child, number)

    def overdue(self, child: int) -> None:
        if not self.timed_out:
            self.timed_out = True
            os.write(1, f"gapless: not done after {self.timeout:g} s, stopping it\n".encode())
            self.deadline = time.monotonic() + GRACE
            send(child, signal.SIGTERM)
            # A stopped program cannot obey before it is continued.
            send(child, signal.SIGCONT)
        else:
            self.deadline = time.monotonic() + PATIENCE
            send(child, signal.SIGKILL)

    def write(self, code: int) -> None:
        text = '{{"code": {}, "signal": {}, "timed_out": {}}}'.format(
            code if code >= 0 else "null",
            -code if code < 0 else "null",
            "true" if self.timed_out else "false",
        )
        os.pwrite(self.handle, text.encode(), 0)
        os.fsync(self.handle)
        os.rename(self.temporary, self.path)  # noqa: PTH104
        folder = os.open(os.path.dirname(self.path), os.O_RDONLY)  # noqa: PTH120
        os.fsync(folder)


def send(child: int, number: signal.Signals) -> None:
    """To the job's whole group, or to the job alone while the group is not there yet."""
    try:
        os.killpg(child, number)
    except ProcessLookupError:
        os.kill(child, number)


def main() -> None:
    os.set_inheritable(CHANNEL, False)
    # What our parent's parents forgot to close is not for the program either.
    os.closerange(CHANNEL + 1, os.sysconf("SC_OPEN_MAX"))
    size = int.from_bytes(receive(8), "big")
    orders: Orders = marshal.loads(receive(size))  # noqa: S302  # from our own parent, by a socketpair
    if orders["exit"] is None:
        become(orders)
    try:
        keeper = Keeper(orders)
        child = os.fork()
    except OSError as error:
        refuse("cannot stand before it", error)
        return
    if child == 0:
        # A group of its own, so that the timeout reaches all of the job and not its keeper.
        os.setpgid(0, 0)
        become(orders)
    os.close(CHANNEL)
    sys.exit(keeper.keep(child))


if __name__ == "__main__":
    main()
