"""A singleton that keeps a diary: ``python holder_app.py FOLDER``.

The standard library alone, one file: a drill copies it into a scratch stack. It is a family of
three, the worst that a scheduler can be: the main process, a child of its session, and a daemon
that has left it. All write into ``FOLDER/diary`` (opened for appending, one line a write):

    HOLDER ROLE PID SECONDS WORD

HOLDER is the replica's own id, SECONDS are of CLOCK_BOOTTIME. WORD is ``took`` or ``refused``
first (whether the lock ``FOLDER/held`` was free, which every one of the family holds), then
``alive`` many times a second. On TERM the main process goes and leaves its children behind.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time

PERIOD = 0.02


class Diary:
    """What one process of the family writes."""

    def __init__(self, handle: int, role: str) -> None:
        self.handle = handle
        self.role = role
        self.holder = os.environ.get("SERVER_ID", "nobody")

    def write(self, word: str) -> None:
        """One line by one write: lines of several processes never mix."""
        at = time.clock_gettime(time.CLOCK_BOOTTIME)
        line = f"{self.holder} {self.role} {os.getpid()} {at:.4f} {word}\n"
        os.write(self.handle, line.encode("ascii"))

    def go_on(self) -> None:
        """For ever."""
        while True:
            time.sleep(PERIOD)
            self.write("alive")


def main() -> int:
    folder = sys.argv[1]
    diary = os.open(f"{folder}/diary", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    lock = os.open(f"{folder}/held", os.O_RDWR | os.O_CREAT, 0o666)
    own = Diary(diary, "main")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        own.write("refused")
    else:
        own.write("took")
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    for role in ("child", "daemon"):
        if os.fork() == 0:
            if role == "daemon":
                os.setsid()
                if os.fork():
                    os._exit(0)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            Diary(diary, role).go_on()
    own.go_on()
    return 0


if __name__ == "__main__":
    sys.exit(main())
