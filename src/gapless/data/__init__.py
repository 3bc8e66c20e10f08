"""State that gapless operates: one noun a file.

``base``      what the engine asks of a store
``postgres``  a PostgreSQL server, ``pgconf`` its texts, ``pgclient`` a connection to it
``redis``     a Valkey or Redis server, ``redisconf`` its texts, ``redisline`` a connection to it,
              ``redisqueue`` how deep its queues are, ``redismeter`` a connection to measure them,
              ``resp`` its protocol, ``redis_shell`` a small client
``values``    what any server's settings may hold
``files``     a folder that services share
``external``  a store that somebody else runs: attributes and a probe
``programs``  a server's programs, run on the machine or in containers of an image
``engines``   server programs: where they come from, their versioned copies
``owned``     files that belong to an unprivileged uid
``helper``    short-lived programs (initdb and the like), run without privileges
"""

from __future__ import annotations

from gapless import errors
from gapless.data import base, external, files, postgres, redis
from gapless.model.data import Data


def open(name: str, data: Data, place: base.Place | None, *, url: str | None = None) -> base.Store:
    """The store ``name``. ``url`` is the resolved address of an external one.

    Nothing is touched by this. Raises DataFault for a URL that cannot be understood.
    """
    if data.url is not None or url is not None:
        if url is None:
            raise errors.DataFault(f"{name}: its url has no value")
        return external.External(name, data.type, url)
    if place is None:
        raise errors.DataFault(f"{name}: has no place to live in")
    if data.type == "postgres":
        return postgres.Postgres(name, data, place)
    if data.type == "redis":
        return redis.Redis(name, data, place)
    return files.Files(name, place)
