"""Leaders that believe themselves: the lease is not checked within the write (a planted fault)."""

from __future__ import annotations

import sys

import leader_app  # type: ignore[import-not-found]  # it is copied beside this one

if __name__ == "__main__":
    sys.exit(leader_app.main(checked=False))
