"""The edge's configuration as a value, and as HAProxy text. Pure.

Nothing from the stack file reaches the text unquoted: every value is single-quoted, and values
with a quote, a control character or a line break are refused before.
"""

from __future__ import annotations

from dataclasses import dataclass

from gapless.model.stack import Stack


@dataclass(frozen=True, slots=True)
class Listener:
    """Where a frontend listens. ``public`` False: the stable address of a private service."""

    bind: str
    public: bool = True


@dataclass(frozen=True, slots=True)
class Backend:
    """One HTTP service. Times in seconds."""

    name: str
    check: str | None
    check_timeout: float
    check_every: float
    check_fall: int
    sticky: bool
    timeout: float
    private_bind: str | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """Requests for ``host`` (None: any) below ``path`` go to ``backend``."""

    path: str
    host: str | None
    backend: str


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that a reload would be needed for; members are not in it."""

    stack: str
    listen: str
    rules: tuple[Rule, ...]
    backends: tuple[Backend, ...]
    run_dir: str
    maxconn: int
    threads: int
    maintenance_page: str | None = None
    allow: tuple[str, ...] = ()


def of_stack(stack: Stack, private: dict[str, str], **machine: object) -> Config:
    """The configuration that a stack asks for. ``private``: service name to bind address."""
    raise NotImplementedError


def render(config: Config) -> str:
    """HAProxy's configuration text."""
    raise NotImplementedError


def digest(config: Config) -> str:
    """Short digest: equal digests mean that no reload is needed."""
    raise NotImplementedError
