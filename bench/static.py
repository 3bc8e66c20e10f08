"""Files through the edge against plain nginx, pairwise: ``python -m bench.static``.

Both serve the same folder to the same clients, in turns of a second, without TLS and with it. The
edge is the one that a stack gets, with its headers. Told are requests/s, which swing with what else
the machine does, and processor time for each request, which hardly does; one ratio above the
line keeps it.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bench import machine
from gapless.drills import ports
from gapless.edge import binary, config, files, render, static, staticconf, staticserver, tls
from gapless.edge.answers import Answers
from gapless.engine.certificates import x509
from gapless.model.answers import HEADERS, REMOVED
from gapless.model.process import Address

LINE = 0.9
"""Of plain nginx's requests/s."""
SECONDS = 1
ROUNDS = 9
"""Short and many: what else the machine does meets both sides alike."""


@dataclass(frozen=True, slots=True)
class Case:
    """``promised``: whether it fails where it is below the line; the rest is told, and in 0024."""

    name: str
    file: str
    size: int
    secure: bool = False
    promised: bool = True


CASES = (
    Case("10 KB, hashed name", "app-5d41402abc4b.js", 10_240),
    Case("10 KB, other name", "page.bin", 10_240),
    Case("100 KB, other name", "photo.png", 102_400, promised=False),
    Case("1 MB, other name", "film.mp4", 1_048_576, promised=False),
    Case("10 KB, by TLS", "page.bin", 10_240, secure=True),
    Case("100 KB, by TLS", "photo.png", 102_400, secure=True),
    Case("1 MB, by TLS", "film.mp4", 1_048_576, secure=True),
)
PLAIN = """\
daemon off; worker_processes 2; pid {home}/plain.pid; error_log stderr;
events {{ worker_connections 4096; }}
http {{
access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; {temp}
ssl_certificate {certificate}; ssl_certificate_key {certificate};
server {{
listen 127.0.0.1:{port}; listen 127.0.0.1:{secure} ssl;
location /static/ {{ alias {root}/r1/; }}
}}
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
        below = [case for case in CASES if not measure(case, sides, options.rounds)]
    finally:
        for child in children:
            child.terminate()
            child.wait()
        shutil.rmtree(home)
    return int(any(case.promised for case in below))


@dataclass(frozen=True, slots=True)
class Side:
    """Where it answers, and the processes that cost: leaders, whose children count as well."""

    url: str
    pids: tuple[int, ...]

    def spent(self) -> float:
        """Seconds of processor time so far."""
        family = [pid for leader in self.pids for pid in (leader, *staticserver.workers(leader))]
        threads = [one for pid in family for one in Path(f"/proc/{pid}/task").iterdir()]
        return sum(int((one / "schedstat").read_text().split()[0]) for one in threads) / 1e9


Pair = tuple[Side, Side]
"""The edge, and plain nginx, with the same folder."""


def start(home: Path, children: list[subprocess.Popen[bytes]]) -> Mapping[bool, Pair]:
    """Without TLS and with it."""
    folder = home / "files" / "r1"
    folder.mkdir(parents=True)
    for case in CASES:
        (folder / case.file).write_bytes(bytes(range(256)) * (case.size // 256))
    certificate = home / "certificates" / "own.pem"
    certificate.parent.mkdir()
    certificate.write_text(x509.self_signed(("localhost", "127.0.0.1"), 2.0, time.time()))
    address = Address(socket=str(home / "s"))
    server = staticserver.StaticServer(home / "static", address)
    mount = staticconf.Mount("/static", str(home / "files"), ("r1", "r0", "r2"), lasting=True)
    wanted = staticconf.Files((mount,), workers=2)
    children.append(subprocess.Popen(server.process(wanted).argv))
    asyncio.run(server.await_config(staticconf.digest(wanted)))
    found, plain = {}, nginx(home, certificate, children)
    for secure in (False, True):
        run = home / f"run-{secure}"
        run.mkdir()
        files.write(run / config.FILES_MAP, static.entry(staticconf.digest(wanted)))
        one = edge(run, str(home / "s"), certificate if secure else None)
        port = int((one.binds[0].address if secure else one.listen).rpartition(":")[2])
        files.prepare(run / "edge", run, one)
        files.write(run / config.STATE_FILE, files.NO_STATE)
        text = run / "edge.cfg"
        text.write_text(render.text(one))
        children.append(subprocess.Popen([str(binary.find()), "-f", str(text)]))
        machine.until(f"port {port}", functools.partial(machine.answers, port))
        pids = (children[0].pid, children[-1].pid)
        found[secure] = (Side(_url(port, secure=secure), pids), plain[secure])
    return found


def edge(run: Path, socket: str, certificate: Path | None) -> config.Config:
    """As a stack gets it."""
    found = config.Config(
        stack="bench",
        listen=f"127.0.0.1:{ports.reserve()}",
        rules=(),
        backends=(),
        run_dir=str(run),
        maxconn=2000,
        threads=2,
        answers=Answers(tuple(HEADERS.items()), REMOVED, compress=True),
        static=static.Static(("/static",), socket),
    )
    if certificate is None:
        return found
    port = ports.reserve()
    policy = tls.Tls(str(certificate.parent), (certificate.stem,), "127.0.0.1", port)
    return replace(found, binds=(config.Bind(f"127.0.0.1:{port}", tls=True),), tls=policy)


def nginx(
    home: Path, certificate: Path, children: list[subprocess.Popen[bytes]]
) -> Mapping[bool, Side]:
    """Plain nginx, without TLS and with it."""
    place = {secure: ports.reserve() for secure in (False, True)}
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temp = " ".join(f"{kind}_temp_path {home}/plain-{kind};" for kind in kinds)
    text = PLAIN.format(
        home=home,
        temp=temp,
        port=place[False],
        secure=place[True],
        certificate=certificate,
        root=home / "files",
    )
    (home / "plain.conf").write_text(text)
    argv = [str(staticserver.find()), "-e", "stderr", "-p", f"{home}/", "-c", f"{home}/plain.conf"]
    children.append(subprocess.Popen(argv))
    machine.until("plain nginx", functools.partial(machine.answers, place[False]))
    pids = (children[-1].pid,)
    return {secure: Side(_url(port, secure=secure), pids) for secure, port in place.items()}


def _url(port: int, *, secure: bool) -> str:
    return f"{'https' if secure else 'http'}://127.0.0.1:{port}"


def measure(case: Case, found: Mapping[bool, Pair], rounds: int) -> bool:
    """Print one line; whether the edge reached the line, by the median of pairs."""
    sides, path = found[case.secure], f"/static/{case.file}"
    for side in sides:
        wrk(side, path, 1)
    pairs = [tuple(wrk(side, path, SECONDS) for side in sides) for _ in range(rounds)]
    rate = statistics.median(own[0] / plain[0] for own, plain in pairs)
    cost = statistics.median(plain[1] / own[1] for own, plain in pairs)
    own, plain = (
        tuple(statistics.median(one) for one in zip(*side, strict=True))
        for side in zip(*pairs, strict=True)
    )
    print(
        f"{case.name:20} edge {own[0]:8,.0f}/s {own[1]:6.1f} us  nginx {plain[0]:8,.0f}/s"
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
    assert count[1] != "0", said
    return float(rate[1]), (side.spent() - before) * 1e6 / int(count[1])


if __name__ == "__main__":
    sys.exit(main())
