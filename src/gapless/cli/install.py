"""``install``: a systemd unit, so that the stack boots with the machine.

The unit runs the controller itself. What was wanted last starts again by the durable record: a
stack that was taken down stays down.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import click

from gapless import errors
from gapless.cli import follow, lifecycle, out, upgrade
from gapless.cli.session import Session
from gapless.engine import build, unit

RUNNING = Path("/run/systemd/system")
"""There where systemd is the machine's service manager."""
SYSTEM = Path("/etc/systemd/system")
HANDED_ON = ("GAPLESS_STATE", "XDG_STATE_HOME", "PATH", "LANG", "TZ")
"""Of our environment: what a controller that gapless up starts would have as well."""
PATIENCE = 100.0
"""Seconds that systemctl may take."""


@click.command()
@click.option("--print", "only_print", is_flag=True, help="Print the unit; change nothing.")
@click.option("--remove", is_flag=True, help="Take the unit away; what runs goes on.")
@click.pass_obj
def install(session: Session, only_print: bool, remove: bool) -> None:
    """Write and enable a systemd unit: as root one of the machine's, else one of yours.

    A controller that runs hands over to the one that systemd starts; nothing else is touched.
    """
    if remove and only_print:
        raise errors.UsageError("install: --print and --remove contradict each other")
    if remove:
        _remove(session)
        return
    wanted = of(session)
    if only_print:
        out.data(str(wanted))
        return
    _needs_systemd()
    place = path(wanted)
    _write(place, str(wanted))
    systemctl("daemon-reload")
    systemctl("enable", wanted.name)
    out.data(f"{place}: boots with the machine")
    if session.client.alive():
        _hand_to_systemd(session, wanted)
    if not wanted.system:
        _hint_lingering()


def of(session: Session) -> unit.Unit:
    """The unit of a stack. Raises UsageError where a path cannot be written into one."""
    handed = {name: os.environ[name] for name in HANDED_ON if os.environ.get(name)}
    command = [*lifecycle.controller_command(session), "--supervised"]
    if not Path(command[0]).is_absolute() or "$" in command[0]:
        raise errors.UsageError(
            f"{command[0]}: systemd cannot run a program by this path",
            hint="install gapless where its path is absolute and has no $",
        )
    return unit.Unit(
        stack=session.stack_id,
        command=command,
        state=str(session.paths.state),
        environment=handed,
        system=os.geteuid() == 0,
    )


def path(wanted: unit.Unit) -> Path:
    """Where the unit lies."""
    return _folder(wanted.system) / wanted.name


def _folder(system: bool) -> Path:
    if system:
        return SYSTEM
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "systemd/user"


def started(session: Session) -> bool:
    """Have systemd start the controller; False where it does not keep this stack.

    Raises EnvironmentFault when it should and cannot.
    """
    name = unit.file_name(session.stack_id)
    place = _folder(os.geteuid() == 0) / name
    if not RUNNING.exists() or not place.exists():
        return False
    mark = unit.mark(str(session.paths.state))
    try:
        lines = place.read_text("utf-8").split("\n")
    except OSError:
        return False
    if mark not in lines:  # of a stack of the same name in another state
        return False
    systemctl("start", name)
    return True


def _hand_to_systemd(session: Session, wanted: unit.Unit) -> None:
    steering = session.client.get("/v1/ping")
    session.client.post("/v1/handover", {"actor": follow.who(), "to": "systemd"})
    if steering.get("supervised"):
        upgrade.await_next(session, int(steering["pid"]), build.digest())
        return
    systemctl("start", wanted.name)
    out.progress(f"{session.stack_id}: systemd keeps the controller from now on")


def _remove(session: Session) -> None:
    name = unit.file_name(session.stack_id)
    place = _folder(os.geteuid() == 0) / name
    if not place.exists():
        raise errors.UsageError(f"{place}: there is no such unit", hint="gapless install")
    if RUNNING.exists():
        systemctl("disable", name)
    try:
        place.unlink()
    except OSError as error:
        raise errors.EnvironmentFault(f"{place}: {error.strerror}") from None
    if RUNNING.exists():
        systemctl("daemon-reload")
    out.data(f"{place}: removed; the stack no longer boots with the machine")


def _needs_systemd() -> None:
    if not RUNNING.exists():
        raise errors.EnvironmentFault(
            "install: systemd is not this machine's service manager",
            hint="gapless install --print shows the unit; elsewhere have gapless up -d run at boot",
        )


def _write(place: Path, text: str) -> None:
    from gapless.engine import durable

    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        durable.write(place, text)
        place.chmod(0o644)
    except OSError as error:
        raise errors.EnvironmentFault(f"{place}: cannot be written: {error.strerror}") from None


def systemctl(*words: str) -> None:
    """Raises EnvironmentFault with what it said."""
    command = ["systemctl", *([] if os.geteuid() == 0 else ["--user"]), *words]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise errors.EnvironmentFault(f"{' '.join(command)}: {error}") from None
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise errors.EnvironmentFault(
            f"{' '.join(command)}: {said[0] if said else f'exit code {done.returncode}'}",
            hint=f"journalctl {'' if os.geteuid() == 0 else '--user '}-u {words[-1]}"
            if words[0] == "start"
            else None,
        )


def _hint_lingering() -> None:
    """A user's units end with his last session, unless he lingers."""
    from gapless.engine.lock import who

    user = who()
    if not (Path("/var/lib/systemd/linger") / user).exists():
        out.progress(f"hint: loginctl enable-linger {user} lets it boot before you log in")
