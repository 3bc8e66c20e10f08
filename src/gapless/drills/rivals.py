"""A scratch stack of those who may only be one: a probe singleton, and replicas with a leader."""

from __future__ import annotations

import functools
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gapless import app, errors
from gapless.data import engines
from gapless.drills import scratch
from gapless.drills.tenure import Line

HERE = Path(__file__).parent
HOLDER = HERE / "holder_app.py"
LEADER = HERE / "leader_app.py"
SHARE = "share"
BEAT, LEAD = "beat", "lead"


@dataclass(frozen=True, slots=True)
class Rivals:
    """``leader``: the program of the leading replicas, which are always programs of the machine.
    ``leaders`` 0: the singleton alone."""

    leaders: int = 3
    leader: Path = LEADER
    ground: scratch.Ground = scratch.MACHINE

    def write(self, folder: Path, name: str) -> None:
        """See ``scratch.Source``."""
        shutil.copyfile(HOLDER, folder / HOLDER.name)
        place, mount = self.ground.kept(SHARE)
        run = self.ground.run(HOLDER.name, place)
        text = STACK.format(name=name, run=run, mount=mount, beat=BEAT, share=SHARE)
        if self.leaders:
            self._write_leaders(folder)
            text += LEADERS.format(
                python=scratch.interpreter(),
                program=self.leader.name,
                lead=LEAD,
                replicas=self.leaders,
                share=SHARE,
            )
        (folder / scratch.FILE).write_text(text, encoding="utf-8")
        (folder / "mode").write_text("good 0\n", encoding="utf-8")

    def _write_leaders(self, folder: Path) -> None:
        """Their program, and beside it what it imports: their Python has neither."""
        for program in {LEADER, self.leader}:
            shutil.copyfile(program, folder / program.name)
        (folder / "gapless").mkdir()
        (folder / "gapless" / "__init__.py").touch()
        ignored = shutil.ignore_patterns("__pycache__", "_testbase", "*.pyx", "*.c")
        driver = driver_home()
        assert driver is not None  # noqa: S101  # asked for by why_no_leaders
        for home, place in ((app_home(), "gapless/app"), (driver, "asyncpg")):
            shutil.copytree(home, folder / place, ignore=ignored)


STACK = """\
gapless = 1
name = "{name}"

[data.{share}]
type = "files"

[service.{beat}]
{run}{mount}singleton = true
drain = "1s"
watch = "200ms"
"""
LEADERS = """
[data.db]
type = "postgres"

[service.{lead}]
run = ["{python}", "{program}", "${{{share}.path}}"]
replicas = {replicas}
env = {{ DATABASE_URL = "${{db.url}}" }}
drain = "2s"
watch = "200ms"
surge = "all"

[job.tally]
run = ["{python}", "{program}", "--tally"]
env = {{ DATABASE_URL = "${{db.url}}" }}
"""


def app_home() -> Path:
    """Where ``gapless.app`` lies."""
    return Path(app.__file__).parent


def driver_home() -> Path | None:
    """Where asyncpg lies; None: it is not installed."""
    spec = importlib.util.find_spec("asyncpg")
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0]) if places else None


@functools.cache
def why_no_leaders() -> str:
    """What is missing here for replicas with a leader; "" when nothing is."""
    if driver_home() is None:
        return "asyncpg is not installed"
    try:
        engines.find("postgres")
    except errors.GaplessError as error:
        return error.message
    python = scratch.interpreter()
    code = "import sys; print(*sys.version_info[:2])"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    ours = " ".join(map(str, sys.version_info[:2]))
    if done.stdout.strip() != ours:
        return f"{python} is another Python than {ours}, for which asyncpg is installed here"
    return ""


@dataclass(slots=True)
class Diary:
    """One file of lines, read as it grows. ``file``: a pattern below the scratch stack's data."""

    home: Path
    file: str
    parse: Callable[[str], Line]
    lines: list[Line] = field(default_factory=list)
    _offset: int = 0

    def read(self) -> list[Line]:
        """All whole lines so far."""
        for place in self.home.glob(f"{SHARE}/files*/{self.file}"):
            with place.open("rb") as file:
                file.seek(self._offset)
                whole, newline, _ = file.read().rpartition(b"\n")
            self._offset += len(whole) + len(newline)
            self.lines += [self.parse(text) for text in whole.decode("ascii").splitlines()]
        return self.lines
