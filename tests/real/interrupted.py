"""Creates a store and ends; a test kills it on the way. Arguments: kind, roof, port, engines."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.real import stores

from gapless.data import postgres, redis
from gapless.model.data import Data


async def main() -> None:
    place = stores.place(Path(sys.argv[2]), port=int(sys.argv[3]), engines=Path(sys.argv[4]))
    if sys.argv[1] == "postgres":
        await postgres.Postgres("db", Data(type="postgres"), place, path="").create()
    else:
        await redis.Redis("db", Data(type="redis"), place, path="").create()


asyncio.run(main())
