"""Limits that the kernel keeps: a control group of its own for each program that has some.

Works on version 1 (a hierarchy for each controller) and 2 (one for all), wherever we may make
groups; elsewhere limits are measured, not kept. Nothing here ever keeps a program from starting:
what fails is remembered in ``fault`` and the program runs without.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from gapless.runtimes.machine import files

Controller = Literal["memory", "cpu"]
PERIOD = 100_000
"""Microseconds of which a cpu limit is a share."""


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Where groups of one controller are made. ``parent`` is the stack's own group."""

    top: Path
    parent: Path
    version: Literal[1, 2]


class Cgroups:
    """The groups of one stack. ``mounts`` and ``own`` are /proc files, other ones in tests."""

    def __init__(
        self,
        stack: str,
        mounts: Path = Path("/proc/self/mounts"),
        own: Path = Path("/proc/self/cgroup"),
    ) -> None:
        self._name = f"gapless-{stack}"
        self._mounts = mounts
        self._own = own
        self._ready: set[Controller] = set()
        self.fault = ""
        """Why the last limit that was asked for is not kept; "" when it is."""

    @cached_property
    def _hierarchies(self) -> dict[Controller, Hierarchy]:
        found: dict[Controller, Hierarchy] = {}
        try:
            lines = self._mounts.read_text().splitlines()
        except OSError:
            return found
        for line in lines:
            _, place, kind, options, *_ = line.split(" ")
            for controller in ("memory", "cpu"):
                if kind == "cgroup" and controller in options.split(","):
                    top = Path(place)
                    found[controller] = Hierarchy(top, top / self._name, 1)
                elif kind == "cgroup2" and controller not in found:
                    top = self._delegated(Path(place))
                    if controller in _words(top / "cgroup.controllers"):
                        found[controller] = Hierarchy(top, top / self._name, 2)
        return found

    def _delegated(self, mount: Path) -> Path:
        """Where in version 2 we may make groups: at the top as root, else below our own group."""
        if os.geteuid() == 0:
            return mount
        with contextlib.suppress(OSError):
            for line in self._own.read_text().splitlines():
                if line.startswith("0::"):
                    return mount / line[3:].lstrip("/")
        return mount

    def kept(self) -> dict[Controller, str]:
        """By controller: "" where groups can be made, else why not. Leaves nothing behind."""
        answer: dict[Controller, str] = {}
        for controller in ("memory", "cpu"):
            answer[controller] = ""
            try:
                self._make_parent(controller)
            except OSError as error:
                answer[controller] = str(error.strerror or error)
        self._clear_parents()
        return answer

    def version(self, controller: Controller) -> int | None:
        """Of the hierarchy that the controller is in; None: it is in none."""
        found = self._hierarchies.get(controller)
        return None if found is None else found.version

    def confine(self, id: str, pid: int, memory: int | None, cpu: float | None) -> None:
        """Put a program into groups with its limits: bytes, cores. Never raises; see ``fault``."""
        self.fault = ""
        for controller, limit in (("memory", memory), ("cpu", cpu)):
            if limit is None:
                continue
            try:
                folder = self._make_parent(controller) / files.file_name(id)  # type: ignore[arg-type]  # one of the two
                folder.mkdir(exist_ok=True)
                for name, text in _settings(controller, limit, self.version(controller)):  # type: ignore[arg-type]  # as above
                    (folder / name).write_text(text)
                (folder / "cgroup.procs").write_text(str(pid))
            except OSError as error:
                self.fault = f"limits.{controller} is not enforced: {error.strerror or error}"

    def _make_parent(self, controller: Controller) -> Path:
        """The stack's group, ready for children. Raises OSError."""
        found = self._hierarchies.get(controller)
        if found is None:
            raise OSError(f"this machine offers no control groups for {controller}")
        if controller not in self._ready or not found.parent.is_dir():
            if found.version == 2:
                _hand_down(found.top, controller)
            found.parent.mkdir(exist_ok=True)
            if found.version == 2:
                _hand_down(found.parent, controller)
            self._ready.add(controller)
        return found.parent

    def ran_out(self, id: str) -> bool:
        """Whether the kernel killed something in the program's group for its memory."""
        found = self._hierarchies.get("memory")
        if found is None:
            return False
        file = "memory.events" if found.version == 2 else "memory.oom_control"
        words = _words(found.parent / files.file_name(id) / file)
        return any(name == "oom_kill" and count != "0" for name, count in itertools.pairwise(words))

    def remove(self, id: str) -> None:
        """Drop the groups of a program that is dead, and the stack's when they were the last."""
        for found in set(self._hierarchies.values()):
            with contextlib.suppress(OSError):
                (found.parent / files.file_name(id)).rmdir()
        self._clear_parents()

    def _clear_parents(self) -> None:
        for found in set(self._hierarchies.values()):
            with contextlib.suppress(OSError):
                found.parent.rmdir()


def _settings(controller: Controller, limit: float, version: int | None) -> list[tuple[str, str]]:
    """(file, text) that put a limit in force."""
    if controller == "memory":
        return [("memory.max" if version == 2 else "memory.limit_in_bytes", str(int(limit)))]
    quota = max(1000, int(limit * PERIOD))
    if version == 2:
        return [("cpu.max", f"{quota} {PERIOD}")]
    return [("cpu.cfs_period_us", str(PERIOD)), ("cpu.cfs_quota_us", str(quota))]


def _hand_down(folder: Path, controller: Controller) -> None:
    """Let the group's children have the controller. Raises OSError."""
    file = folder / "cgroup.subtree_control"
    if controller not in _words(file):
        file.write_text(f"+{controller}")


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []
