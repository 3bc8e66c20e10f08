"""Files through the edge against plain nginx, pairwise: ``python -m bench.static``.

Both serve the same folder to the same clients, in turns of a few seconds. The edge is the one that
a stack gets, with its headers. Told are requests/s, which swing with what else the machine does,
and processor time for each request, which hardly does; one ratio above the line keeps it.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench import machine
from gapless.drills import ports
from gapless.edge import binary, config, files, render, static, staticconf, staticserver
from gapless.edge.answers import Answers
from gapless.model.answers import HEADERS, REMOVED
from gapless.model.process import Address

LINE = 0.9
"""Of plain nginx's requests/s."""
PROMISED = "10 KB, hashed name"
"""The rest is told: two programs cost more than one, and only hashed names are kept in memory."""
SECONDS = 3
ROUNDS = 5
CASES: Mapping[str, tuple[str, int]] = {
    "10 KB, hashed name": ("app-5d41402abc4b.js", 10_240),
    "100 KB, hashed name": ("big-7d793037a076.js", 102_400),
    "10 KB, other name": ("page.bin", 10_240),
    "1 MB, other name": ("film.mp4", 1_048_576),
}
PLAIN = """\
daemon off; worker_processes 2; pid {home}/plain.pid; error_log stderr;
events {{ worker_connections 4096; }}
http {{
access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; {temp}
server {{ listen 127.0.0.1:{port}; location /static/ {{ alias {root}/r1/; }} }}
}}
"""


def main() -> int:
    """Exit code 1 when what is promised is served below the line."""
    parser = argparse.ArgumentParser(prog="bench.static", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        print("skipped: no wrk on PATH (apt-get install wrk)")
        return 0
    home = Path(tempfile.mkdtemp(prefix="gb-static-", dir="/tmp"))
    home.chmod(0o711)
    children: list[subprocess.Popen[bytes]] = []
    try:
        sides = start(home, children)
        below = [name for name in CASES if not measure(name, sides, options.rounds)]
    finally:
        for child in children:
            child.terminate()
            child.wait()
        shutil.rmtree(home)
    return int(PROMISED in below)


@dataclass(frozen=True, slots=True)
class Side:
    """Where it answers, and the processes that cost: leaders, whose children count as well."""

    url: str
    pids: tuple[int, ...]

    def spent(self) -> float:
        """Seconds of processor time so far."""
        family = [pid for leader in self.pids for pid in (leader, *staticserver.workers(leader))]
        fields = [
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in family
        ]
        return sum(int(one[11]) + int(one[12]) for one in fields) / os.sysconf("SC_CLK_TCK")


def start(home: Path, children: list[subprocess.Popen[bytes]]) -> tuple[Side, Side]:
    """The edge, and plain nginx, with the same folder."""
    folder = home / "files" / "r1"
    folder.mkdir(parents=True)
    for name, size in CASES.values():
        (folder / name).write_bytes(bytes(range(256)) * (size // 256))
    run = home / "run"
    (run / "static").mkdir(parents=True)
    address = Address(socket=str(run / "static" / "s"))
    server = staticserver.StaticServer(home / "static", address)
    mount = staticconf.Mount("/static", str(home / "files"), ("r1", "r0", "r2"), lasting=True)
    wanted = staticconf.Files((mount,), workers=2)
    children.append(subprocess.Popen(server.process(wanted).argv))
    asyncio.run(server.await_config(staticconf.digest(wanted)))
    port = ports.reserve()
    edge = config.Config(
        stack="bench",
        listen=f"127.0.0.1:{port}",
        rules=(),
        backends=(),
        run_dir=str(run),
        maxconn=2000,
        threads=2,
        answers=Answers(tuple(HEADERS.items()), REMOVED, compress=True),
        static=static.Static(("/static",), str(run / "static" / "s")),
    )
    files.prepare(home / "edge", run, edge)
    files.write(run / config.STATE_FILE, files.NO_STATE)
    files.write(run / config.FILES_MAP, static.entry(staticconf.digest(wanted)))
    text = home / "edge.cfg"
    text.write_text(render.text(edge))
    children.append(subprocess.Popen([str(binary.find()), "-f", str(text)]))
    plain = ports.reserve()
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temp = " ".join(f"{kind}_temp_path {home}/plain-{kind};" for kind in kinds)
    (home / "plain.conf").write_text(
        PLAIN.format(home=home, temp=temp, port=plain, root=home / "files")
    )
    argv = [str(staticserver.find()), "-e", "stderr", "-p", f"{home}/", "-c", f"{home}/plain.conf"]
    children.append(subprocess.Popen(argv))
    for one in (port, plain):
        machine.until(f"port {one}", functools.partial(machine.answers, one))
    files_, haproxy, nginx = (child.pid for child in children)
    return (
        Side(f"http://127.0.0.1:{port}", (files_, haproxy)),
        Side(f"http://127.0.0.1:{plain}", (nginx,)),
    )


def measure(name: str, sides: tuple[Side, Side], rounds: int) -> bool:
    """Print one line; whether the edge reached the line, by the median of pairs."""
    path = f"/static/{CASES[name][0]}"
    for side in sides:
        wrk(side, path, 1)
    pairs = [tuple(wrk(side, path, SECONDS) for side in sides) for _ in range(rounds)]
    rate = statistics.median(edge[0] / plain[0] for edge, plain in pairs)
    cost = statistics.median(plain[1] / edge[1] for edge, plain in pairs)
    edge, plain = (
        tuple(statistics.median(one) for one in zip(*side, strict=True))
        for side in zip(*pairs, strict=True)
    )
    print(
        f"{name:20} edge {edge[0]:8,.0f}/s {edge[1]:6.1f} us  nginx {plain[0]:8,.0f}/s"
        f" {plain[1]:6.1f} us  ratio {rate:.2f}, by processor time {cost:.2f}",
        flush=True,
    )
    return max(rate, cost) >= LINE


def wrk(side: Side, path: str, seconds: int) -> tuple[float, float]:
    """Requests/s of 32 clients, and microseconds of processor time for each. All must be good."""
    before = side.spent()
    argv = ["wrk", "-t1", "-c32", f"-d{seconds}s", f"{side.url}{path}"]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in said, said
    rate = re.search(r"Requests/sec:\s+([0-9.]+)", said)
    count = re.search(r"([0-9]+) requests in", said)
    assert rate, said
    assert count, said
    return float(rate[1]), (side.spent() - before) * 1e6 / int(count[1])


if __name__ == "__main__":
    sys.exit(main())
