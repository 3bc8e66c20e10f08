"""The systemd unit of a stack, as text. Values in, text out.

Nothing of a path can become a directive or an argument: every value is quoted, and what cannot
be quoted (control characters) is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gapless.errors import UsageError

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
HANDED_OVER = 75
"""Exit code of a controller that wants the next one, of another gapless, in its place."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What a unit is made of. ``system``: one of the machine's; else one of a user's."""

    stack: str
    command: Sequence[str]
    """The controller; the program's path is absolute."""
    state: str
    """Where the stack's state lies: by it the unit is known as this very stack's."""
    environment: Mapping[str, str] = field(default_factory=dict)
    system: bool = True

    @property
    def name(self) -> str:
        return file_name(self.stack)

    def __str__(self) -> str:
        lines = [
            "# Made by gapless install; gapless install --remove takes it away.",
            "[Unit]",
            f"Description=gapless stack {self.stack}",
            "After=network.target",
            "# It is tried again for ever: a full disk gets empty again.",
            "StartLimitIntervalSec=0",
            "",
            "[Service]",
            "Type=notify",
            f"ExecStart={' '.join(_arguments(self.command))}",
            *(f"Environment={quote(f'{k}={v}')}" for k, v in sorted(self.environment.items())),
            "WorkingDirectory=/",
            "Restart=on-failure",
            "RestartSec=1",
            "WatchdogSec=120",
            "# Replicas, load balancer and data outlive the controller: it alone is ended, and",
            "# one of them that runs out of memory is its affair, not the unit's end.",
            "KillMode=process",
            "OOMPolicy=continue",
            "# Its own branch of the control groups, for the limits of what it runs.",
            "Delegate=yes",
            "TasksMax=infinity",
            "LimitNOFILE=1048576",
            *(_HARDENING if self.system else ()),
            "",
            "[Install]",
            f"WantedBy={'multi-user.target' if self.system else 'default.target'}",
            "",
            "[X-Gapless]",
            mark(self.state),
            "",
        ]
        return "\n".join(lines)


_HARDENING = (
    "# Programs have uids of their own and no_new_privs anyhow; more would differ from gapless up.",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectHostname=yes",
)


def file_name(stack: str) -> str:
    """The unit's name; a stack id needs no escaping."""
    return f"gapless-{stack}.service"


def mark(state: str) -> str:
    """The line that tells whose unit it is."""
    return f"State={quote(state)}"


def quote(value: str) -> str:
    """A value in double quotes, specifiers and escapes made harmless. Raises UsageError."""
    if _CONTROL.search(value) or not _encodable(value):
        raise UsageError(
            f"{value!r}: cannot be written into a systemd unit",
            hint="use a path without line breaks, control characters and broken UTF-8",
        )
    text = value.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{text}"'


def _arguments(command: Sequence[str]) -> list[str]:
    program, *words = command
    # The program itself is not subject to the expansion of variables, and so has no escape for it.
    return [quote(program), *(quote(word).replace("$", "$$") for word in words)]


def _encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
