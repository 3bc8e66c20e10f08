"""The same as ``writer``, with threads and psycopg."""

from __future__ import annotations

import contextlib
import os
import sys
import time

import psycopg

from gapless.app.lease import BlockingLease, Lost
from gapless.app.lease_postgres import DbApi


def write(url: str, lease: BlockingLease, token: int) -> None:
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        lease.check(cursor)
        # Time to be paused in, between looking and acting.
        time.sleep(0.02)
        cursor.execute("insert into written (token, pid) values (%s, %s)", (token, os.getpid()))


def main(url: str, name: str, ttl: float) -> None:
    with BlockingLease(name, DbApi(lambda: psycopg.connect(url)), ttl) as lease:
        while True:
            token = lease.wait()
            with contextlib.suppress(Lost, psycopg.Error):
                if token is not None:
                    write(url, lease, token)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
