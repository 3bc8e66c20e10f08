"""Processes, ports, memory and programs of the machine that measures."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from gapless import errors

ROOT = Path(__file__).parents[1]
OUT = ROOT / "bench/out"
PM2 = "pm2@7.0.4"


def until(what: str, true: Callable[[], bool], seconds: float = 60.0) -> None:
    """Poll until true. Raises WorkFailed, naming what never came."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise errors.WorkFailed(f"bench: {what}: not within {seconds:g} s")
        time.sleep(0.02)


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody uses right now."""
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in found:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in found]


def answers(port: int) -> bool:
    """Whether somebody listens on a port of the loopback interface."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def memory(pids: Sequence[int]) -> float:
    """Resident MiB of these processes together."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total += int(line.split()[1])
    return total / 1024


def cpu_seconds(pid: int) -> float:
    """Seconds of cpu a process has used since its start."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def exact_cpu_seconds(pid: int) -> float:
    """The same to the nanosecond, of the threads that it has now."""
    spent = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        spent += int((task / "schedstat").read_text().split()[0])
    return spent / 1e9


def run(argv: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str], limit: float) -> str:
    """A command to its end. Raises WorkFailed with the end of what it said."""
    done = subprocess.run(
        argv,
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
    )
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip()[-600:]
        raise errors.WorkFailed(f"{' '.join(map(str, argv))}: exit code {done.returncode}: {said}")
    return done.stdout


class Folder:
    """A scratch folder that unprivileged replicas can reach, with a place for pid files."""

    def __init__(self, source: str) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="gapless-bench-"))
        self.path.chmod(0o711)
        self.pids_folder = self.path / "pids"
        self.pids_folder.mkdir()
        self.pids_folder.chmod(0o1777)
        for each in (ROOT / "bench" / source).iterdir():
            if each.is_file():
                shutil.copy(each, self.path)

    def booted(self) -> set[int]:
        """Application processes that have booted and are alive."""
        return {pid for path in self.pids_folder.iterdir() if alive(pid := int(path.name))}

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


class Child:
    """A program in the foreground of ours, its output in a file."""

    def __init__(self, argv: Sequence[str | Path], folder: Folder, env: Mapping[str, str]) -> None:
        self.log = folder.path / f"{Path(argv[0]).name}.log"
        with self.log.open("ab") as output:
            self._child = subprocess.Popen(
                argv,
                cwd=folder.path,
                env={**os.environ, **env},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.pid = self._child.pid

    def signal(self, number: signal.Signals) -> None:
        self._child.send_signal(number)

    def stop(self) -> None:
        """TERM, and after ten seconds KILL to whatever is left of its session."""
        self._child.terminate()
        try:
            self._child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._child.wait()


def tools() -> Path:
    """The ``bin`` folder with what ``bench/tools.txt`` locks; made once."""
    lock = ROOT / "bench/tools.txt"
    home = OUT / f"tools-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    if not (home / "made").exists():
        home.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
        pip: list[str | Path] = [
            home / "bin/python",
            "-m",
            "pip",
            "--disable-pip-version-check",
            "install",
            "-q",
        ]
        argv = [*pip, "--root-user-action", "ignore", "--require-hashes", "-r", lock]
        run(argv, cwd=ROOT, env={}, limit=300)
        (home / "made").touch()
    return home / "bin"


def pm2() -> Path:
    """PM2's program. Raises MissingSubject when Node is not there or npm cannot be reached."""
    home = OUT / PM2.replace("@", "-")
    program = home / "node_modules/.bin/pm2"
    if program.exists():
        return program
    if not shutil.which("npm"):
        raise errors.MissingSubject("npm is not installed")
    home.mkdir(parents=True, exist_ok=True)
    try:
        quiet = ["--silent", "--no-audit", "--no-fund", "--prefix", str(home)]
        run(["npm", "install", *quiet, PM2], cwd=home, env={}, limit=180)
    except (errors.WorkFailed, subprocess.TimeoutExpired) as error:
        raise errors.MissingSubject(f"npm could not install {PM2}: {error}") from None
    return program


@contextlib.contextmanager
def folder(source: str = "stack") -> Iterator[Folder]:
    """A scratch folder for the time of a block, with the files of ``bench/source``."""
    made = Folder(source)
    try:
        yield made
    finally:
        made.remove()
