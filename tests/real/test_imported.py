"""A Compose file of somebody else: imported, started in containers, and it answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.real import boxed
from tests.real.boxed import gapless, living, roof
from tests.runtimes import docker_bench

from gapless.drills import ports
from gapless.engine.paths import Paths
from gapless.runtimes.docker import spec
from gapless.runtimes.docker.client import Client

STORES = ("localhost/postgres:18", "localhost/valkey:9")
FILE = """\
name: imported
services:
  front:
    image: nginx:alpine
    ports: ["127.0.0.1:{port}:80"]
    volumes: ["./nginx.conf:/etc/nginx/conf.d/default.conf:ro"]
    depends_on: [web, api]
  web: &program
    image: {image}
    command: [python3, -m, http.server, "8000", --directory, /site]
    volumes: ["site:/site", "./pages:/pages:ro"]
    depends_on: {{migrate: {{condition: service_completed_successfully}}}}
    healthcheck: {{test: "curl -f http://localhost:8000/", interval: 1s}}
    deploy: &update {{replicas: 2, update_config: {{monitor: 200ms}}}}
    stop_grace_period: 2s
  api:
    <<: *program
    command: [python3, -c, "{needy}"]
    secrets: [hush]
    extra_hosts: ["old.example.com:10.9.8.7", "the.machine:host-gateway"]
    deploy: {{<<: *update, replicas: 1}}
    environment:
      DB: "postgresql://app:s3cret@db/app"
      CACHE: "redis://the_cache:6379"
      SECOND_URL: "redis://second:6379"
      SECOND_HOST: second
      QUEUE: the_queue:7000
  db:
    image: {stores[0]}
    environment: {{POSTGRES_USER: app, POSTGRES_PASSWORD: s3cret}}
    volumes: ["kept:/var/lib/postgresql/data"]
  cache: {{image: "{stores[1]}", container_name: the_cache}}
  second: {{image: "{stores[1]}"}}
  queue:
    image: {image}
    container_name: the_queue
    command: [python3, -c, "{queue}"]
    stop_signal: SIGINT
    healthcheck: {{test: [CMD, python3, -c, "open('/ready')"], interval: 1s}}
  migrate:
    image: {image}
    command:
      - python3
      - -c
      - |
        import os
        os.makedirs("/site/below/api", exist_ok=True)
        for name in ("/site/index.html", "/site/below/index.html", "/site/below/api/index.html"):
            with open(name, "w") as page:
                page.write(f"{{name}} $$ {{os.environ['WORD']}} {{os.environ['API_TOKEN']}}")
    environment: {{WORD: "${{WORD:-hello}}", API_TOKEN: hunter2-abc}}
    volumes: ["site:/site"]
    restart: "no"
volumes: {{site: , kept: }}
secrets: {{hush: {{file: hush.txt}}}}
"""
QUEUE = (
    "import socket; s = socket.create_server(('', 7000)); open('/ready', 'w').close()\\n"
    "while True: c = s.accept()[0]; c.sendall(b'queued'); c.close()"
)
"""No HTTP: others reach it by its name alone."""
NEEDY = (
    "import os, socket; socket.create_connection(('the_queue', 7000), 5).close()\\n"
    "os.execlp('python3', 'python3', '-m', 'http.server', '8000', '--directory', '/site/below')"
)
"""It ends at once where the queue is not there, though the edge is to send it requests."""
CONF = """\
upstream web { server web:8000; }
server {
  listen 80;
  location / { proxy_pass http://web; proxy_set_header Host $host; }
  location /api { proxy_pass http://api:8000; }
}
"""
USUAL = """
with socket.create_connection((os.environ["SECOND_HOST"], 6379), 5) as line:
    line.sendall(b"PING\\r\\n")
    print(line.recv(7))
"""
"""Whoever is told no port takes the usual one."""
NOBODY = """
os.setgroups([])
os.setuid(65534)
print(open("/pages/a.txt").read() + open("/site/index.html").read().split()[0])
print(open("/run/secrets/hush").read().replace("-", " "), os.environ.get("HUSH"))
"""
"""As nginx and its like go on: in no group of the stack's."""
SAID = 'print(*(f"{name}:{found[name]}" for name in ("db", "cache")))'
NAMED = """
print(socket.create_connection(('the_queue', 7000), 5).recv(9))
machine = socket.gethostbyname("the.machine")
print("old at", socket.gethostbyname("old.example.com"), machine.count(".") == 3)
"""
ASK = f"{boxed.ASK}\n{SAID}\n{NAMED}\n{USUAL}\n{NOBODY}"


async def tagged() -> tuple[str, str]:
    """One image of both servers, by names that an import takes for theirs."""
    made = await asyncio.to_thread(docker_bench.stores_image)
    client = Client()
    for name in STORES:
        await client.tag(made, *name.rsplit(":", 1))
    await client.close()
    return STORES


@pytest.fixture
async def folder(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Path]:
    async with roof(monkeypatch, "imported") as made:
        yield made
        await gapless(made, "down")


async def test_an_imported_stack_comes_up_and_answers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = await asyncio.to_thread(docker_bench.python_image)
    stores = await tagged()
    port = ports.reserve()
    text = FILE.format(image=image, port=port, stores=stores, queue=QUEUE, needy=NEEDY)
    (folder / "compose.yaml").write_text(text)
    (folder / "nginx.conf").write_text(CONF)
    (folder / "hush.txt").write_text("a-word-in-a-file")
    (folder / "pages").mkdir()
    (folder / "pages" / "a.txt").write_text("a page of ")
    _, said = await gapless(folder, "import", "compose.yaml", well=True)
    assert "refused" not in said
    assert "API_TOKEN: its value is at compose.yaml:" in said
    made = (folder / "gapless.toml").read_text()
    assert "hunter2" not in made and "s3cret" not in made
    assert f'image = "{stores[0]}"' in made and f'image = "{stores[1]}"' in made
    assert "docker compose exec -T db pg_dump --no-owner -U app app | gapless connect db" in said
    code, said = await gapless(folder, "check", "--target", "docker")
    assert (code, "gapless secret set API_TOKEN" in said) == (2, True)
    monkeypatch.setenv("API_TOKEN", "hunter2-abc")
    monkeypatch.setenv("HUSH", "a-word-in-a-file")
    await gapless(folder, "check", "--target", "docker", well=True)
    await gapless(folder, "up", "-d", "--target", "docker", well=True)
    assert set(await living("imported")) == {
        "web.1@r1", "web.2@r1", "api.1@r1", "queue.1@r1", "data.db", "data.cache", "data.second",
    }  # fmt: skip
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        for path, name in (("/", "/site/index.html"), ("/api/", "/site/below/api/index.html")):
            async with session.get(path) as got:
                assert await got.text() == f"{name} $ hello hunter2-abc"
    _, said = await gapless(folder, "run", "api", "--", "python3", "-c", ASK, well=True)
    told = set(said.splitlines())  # a slow run tells more
    assert {
        "db:R cache:+OK",
        "b'queued'",
        "old at 10.9.8.7 True",
        "b'-NOAUTH'",
        "a page of /site/index.html",
    } <= told
    given = Paths.of("imported").run / "s"
    assert (given.stat().st_mode & 0o777, (given / "HUSH").read_text()) == (
        0o700,
        "a-word-in-a-file",
    )
    await gapless(folder, "down", well=True)
    (said,) = [log.read_text() for log in Paths.of("imported").logs.glob("queue*")]
    assert "KeyboardInterrupt" in said  # INT, as its file says
    client = Client()
    assert await client.containers({spec.STACK: "imported"}) == []  # nor what the job has left
    await client.close()


PAGES = """
import http.server, os
class Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{os.environ['NAME']} {self.path}".encode())
http.server.ThreadingHTTPServer(("", 8000), Pages).serve_forever()
"""
TRAEFIK = {
    "web": "Host(`shop.localhost`)",
    "api": "Host(`shop.localhost`) && PathPrefix(`/api`)",
    "admin": "Host(`admin.localhost`)",
}
CADDYFILE = """\
shop.localhost {
    handle /api/* {
        reverse_proxy api:8000
    }
    handle {
        reverse_proxy web:8000
    }
}
admin.localhost {
    encode gzip
    reverse_proxy admin:8000
}
"""
HAPROXYCFG = """\
defaults
    mode http
    timeout client 30s
frontend public
    bind :80
    acl shop hdr(host) -i shop.localhost
    use_backend api if shop { path_beg /api }
    use_backend web if shop
    use_backend admin if { hdr(host) -i admin.localhost }
backend web
    server-template web 2 web:8000 check
backend api
    server api api:8000 check
backend admin
    server admin admin:8000
"""


def traefik(services: dict[str, Any]) -> None:
    services["lb"] |= {"image": "traefik:v3", "command": "--providers.docker"}
    for name, rule in TRAEFIK.items():
        services[name]["labels"] = [
            f"traefik.http.routers.{name}.rule={rule}",
            f"traefik.http.services.{name}.loadbalancer.server.port=8000",
        ]


def traefik_by_file(services: dict[str, Any]) -> None:
    services["lb"] |= {"image": "traefik:v3", "volumes": ["./traefik.yml:/etc/traefik/rules.yml"]}


def caddy(services: dict[str, Any]) -> None:
    services["lb"] |= {"image": "caddy:2", "volumes": ["./Caddyfile:/etc/caddy/Caddyfile:ro"]}


def haproxy(services: dict[str, Any]) -> None:
    services["lb"] |= {"image": "haproxy", "volumes": ["./haproxy:/usr/local/etc/haproxy"]}


def nginx_proxy(services: dict[str, Any]) -> None:
    services["lb"]["image"] = "nginxproxy/nginx-proxy"
    for name, host in (("web", "shop"), ("api", "shop"), ("admin", "admin")):
        services[name]["environment"] |= {
            "VIRTUAL_HOST": f"{host}.localhost", "VIRTUAL_PORT": 8000,
        }  # fmt: skip
    services["api"]["environment"]["VIRTUAL_PATH"] = "/api"


@pytest.mark.parametrize("front", [traefik, traefik_by_file, caddy, haproxy, nginx_proxy])
async def test_what_stood_in_front_leads_where_it_led(
    folder: Path, front: Callable[[dict[str, Any]], None]
) -> None:
    image = await asyncio.to_thread(docker_bench.python_image)
    port = ports.reserve()
    services: dict[str, Any] = {
        name: {
            "image": image,
            "command": ["python3", "-c", PAGES],
            "environment": {"NAME": name},
            "healthcheck": {"test": "curl -f http://localhost:8000/", "interval": "1s"},
            "deploy": {"update_config": {"monitor": "200ms"}},
        }
        for name in ("web", "api", "admin")
    }
    services["lb"] = {"ports": [f"127.0.0.1:{port}:80"], "depends_on": ["web", "api"]}
    front(services)
    (folder / "compose.yaml").write_text(json.dumps({"name": "imported", "services": services}))
    (folder / "Caddyfile").write_text(CADDYFILE)
    rules = {
        "routers": {name: {"rule": rule, "service": name} for name, rule in TRAEFIK.items()},
        "services": {
            name: {"loadBalancer": {"servers": [{"url": f"http://{name}:8000"}]}}
            for name in TRAEFIK
        },
    }
    (folder / "traefik.yml").write_text(json.dumps({"http": rules}))
    (folder / "haproxy").mkdir()
    (folder / "haproxy" / "haproxy.cfg").write_text(HAPROXYCFG)
    _, said = await gapless(folder, "import", "compose.yaml", well=True)
    assert "refused" not in said
    await gapless(folder, "up", "-d", "--target", "docker", well=True)
    assert set(await living("imported")) == {"web.1@r1", "api.1@r1", "admin.1@r1"}
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        for host, path, told in (
            ("shop", "/", "web /"),
            ("shop", "/api/x", "api /api/x"),
            ("admin", "/api/x", "admin /api/x"),
            ("nobody", "/api/x", None),
        ):
            async with session.get(path, headers={"Host": f"{host}.localhost"}) as got:
                assert (await got.text() if got.status == 200 else None) == told
