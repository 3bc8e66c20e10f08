"""Every error that gapless shows: whose fault it is, what to do, and the exit code it ends with.

An error is data. ``message`` names place and fault in one line, ``hint`` is what to do next
(a command to paste where there is one). The CLI prints both and exits with ``exit_code``;
the API sends them as JSON. Nobody parses sentences.

Exit codes: 1 the work or the promise failed, 2 wrong usage or invalid file, 3 no controller,
4 refused or aborted with the old state still serving.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar


class GaplessError(Exception):
    """The root. ``detail`` carries machine-readable facts for ``--json``."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None, **detail: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.detail = detail

    def as_dict(self) -> dict[str, Any]:
        """``{"error": class name, "message", "hint", "exit_code", …detail}``."""
        return {
            "error": type(self).__name__,
            "message": self.message,
            "hint": self.hint,
            "exit_code": self.exit_code,
            **self.detail,
        }


class WorkFailed(GaplessError):
    """The work was begun and did not succeed, or a promise did not hold."""


class UsageError(GaplessError):
    """The user asked for something that makes no sense; nothing was begun."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault in the stack file. ``line`` is 1-based; None when no line can be named."""

    message: str
    file: str = "gapless.toml"
    line: int | None = None
    text: str | None = None

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        head = f"{place}: {self.message}"
        return head if self.text is None else f"{head}\n{self.line:>5} | {self.text}"


class InvalidStack(UsageError):
    """The stack file has faults; all of them are in ``problems``."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(
            "\n".join(str(p) for p in problems),
            problems=[
                {"file": p.file, "line": p.line, "message": p.message, "text": p.text}
                for p in problems
            ],
        )
        self.problems = problems


class MissingSubject(UsageError):
    """A drill has nothing to act on in this stack."""


class NoController(GaplessError):
    """A changing command found no controller."""

    exit_code = 3


class Refused(GaplessError):
    """Not begun, or aborted with the old state still serving."""

    exit_code = 4


class Locked(Refused):
    """Somebody else is the one writer; ``holder`` is named in the message."""


class EnvironmentFault(Refused):
    """The machine does not allow it: port taken, disk full, not writable, path too long."""


class Damaged(Refused):
    """A file of the state cannot be understood; nothing was done with it, what runs goes on."""


class EdgeRefused(GaplessError):
    """The edge answered a command with a fault; ``command`` and ``answer`` are in the detail."""


class DataFault(GaplessError):
    """A store could not be created, started or reached."""


class RuntimeFault(GaplessError):
    """A process or container could not be started, signalled or looked at."""
