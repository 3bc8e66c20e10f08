"""One question and its answer over a Unix socket of HAProxy's."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gapless import errors

ANSWER_SECONDS = 5.0
"""How long HAProxy may take over one exchange."""


class SilentError(Exception):
    """Nobody answers at the socket; ``was``: there is one, so somebody did."""

    def __init__(self, text: str, was: bool) -> None:
        super().__init__(text)
        self.was = was


async def exchange(path: Path, line: str, patience: float = ANSWER_SECONDS) -> str:
    """Say a line, and hear everything until the other side hangs up.

    Raises SilentError when nobody is there, EdgeRefused when somebody is and says nothing.
    """
    try:
        async with asyncio.timeout(patience):
            reader, writer = await asyncio.open_unix_connection(str(path))
            try:
                writer.write(line.encode())
                return (await reader.read(-1)).decode(errors="replace")
            finally:
                writer.close()
    except TimeoutError:
        raise refused(line.strip(), f"no answer within {patience:g} s") from None
    except OSError as error:
        was = not isinstance(error, FileNotFoundError)
        raise SilentError(f"{path.name}: {error.strerror or error}", was) from None


def refused(order: str, answer: str) -> errors.EdgeRefused:
    """The fault of an order that was not done."""
    return errors.EdgeRefused(
        f'edge: HAProxy refused "{order}": {answer or "no answer"}', command=order, answer=answer
    )
