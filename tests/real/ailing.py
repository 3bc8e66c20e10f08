"""The probe service, with ways to fall ill; tests put it in the place of ``probe_app.py``.

GET /live           200, or 500 once it has fallen ill
GET /fall-ill       liveness fails from now on
GET /eat?mb=50      so much more memory is kept for ever
"""

from __future__ import annotations

import sys

import probe_base  # type: ignore[import-not-found]  # gapless.drills.probe_app under another name


class Ailing(probe_base.Server):  # type: ignore[misc]  # as above
    """Well until told otherwise."""

    live = True
    hoard: list[bytearray] = []  # noqa: RUF012  # one server a process

    async def _handle(self, method: str, target: str, body: bytes) -> tuple[int, bytes]:
        if target == "/live":
            return (200, b"live\n") if self.live else (500, b"ill\n")
        if target == "/fall-ill":
            self.live = False
            return 200, b"ill from now on\n"
        if target.startswith("/eat"):
            self.hoard.append(bytearray(b"x") * (int(target.partition("mb=")[2]) << 20))
            return 200, b"eaten\n"
        status, text = await super()._handle(method, target, body)
        return status, text


if __name__ == "__main__":
    probe_base.Server = Ailing
    sys.exit(probe_base.main())
