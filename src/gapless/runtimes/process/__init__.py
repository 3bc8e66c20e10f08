"""Programs as plain processes of this machine; they outlive the controller and are adopted.

``runtime`` the runtime itself · ``spawn`` one start · ``launcher`` what runs between fork and exec
· ``records`` who was started · ``sessions`` what it left · ``cgroups`` its limits
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gapless.runtimes.process.runtime import ProcessRuntime

__all__ = ["ProcessRuntime"]


def __getattr__(name: str) -> Any:
    # Whoever only reads records (``ps`` beside a dead controller) needs no asyncio.
    if name == "ProcessRuntime":
        from gapless.runtimes.process.runtime import ProcessRuntime

        return ProcessRuntime
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
