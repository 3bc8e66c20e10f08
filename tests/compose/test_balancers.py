"""Mapping: Traefik's labels, nginx's and Caddy's files become routes, where all is understood."""

from __future__ import annotations

import pytest

from .made import imported

TRAEFIK = """\
services:
  proxy:
    image: traefik:v3
    command: ["--certificatesresolvers.le.acme.email=a@b.c", "--entrypoints.web.address=:80"]
    ports: ["80:80", "443:443", "8080:8080"]
  web:
    image: web
    labels:
      - traefik.enable=true
      - "traefik.http.routers.w.rule=Host(`shop.example.com`) && PathPrefix(`/app`)"
      - traefik.http.routers.w.tls.certresolver=le
      - traefik.http.services.w.loadbalancer.server.port=8000
      - traefik.http.services.w.loadbalancer.sticky.cookie=true
      - traefik.http.middlewares.x.basicauth.users=a
      - other=1
  odd:
    image: odd
    labels: ["traefik.http.routers.o.rule=HostRegexp(`.*`)"]
"""


def test_traefik() -> None:
    made = imported(TRAEFIK)
    assert set(made.stack.services) == {"web", "odd"}
    web = made.stack.services["web"]
    assert (web.port, web.sticky) == (8000, "cookie")
    assert web.route is not None
    assert (web.route.host, web.route.path) == (None, "/app")
    assert made.stack.domains == ("shop.example.com",)
    assert (made.stack.edge.listen, made.stack.tls) == ("*:80", "auto")
    assert made.kind("services.web.labels[5]") == "refused"
    assert made.kind("services.odd.labels[0]") == "refused"
    assert made.kind("services.proxy.ports[1]") == "kept"


def test_what_traefik_asks_of_a_replica_says_when_it_is_ready() -> None:
    text = """\
services:
  web:
    image: web
    expose: [80]
    labels:
      traefik.http.services.w.loadbalancer.healthcheck.path: /health
      traefik.http.services.w.loadbalancer.healthcheck.interval: 10s
"""
    made = imported(text)
    assert made.tree["service"]["web"]["ready"] == "/health"
    assert {line.kind for line in made.result.lines} == {"kept", "emulated"}
    asked = text + "    healthcheck: {test: my-own}\n"
    assert "command" in imported(asked).tree["service"]["web"]["ready"]


def test_a_rule_of_traefik_needs_a_port_to_pass_requests_on_to() -> None:
    text = """\
services:
  web: {image: web, labels: ["traefik.http.routers.w.rule=PathPrefix(`/a`)"]}
"""
    assert imported(text).kind("services.web.labels[0]") == "refused"
    made = imported(text.replace("image: web", "image: web, expose: [3000]"))
    assert made.kind("services.web.labels[0]") == "kept"
    assert made.stack.services["web"].port == 3000


NGINX = """\
services:
  proxy:
    image: nginx:alpine
    volumes: ["./nginx.conf:/etc/nginx/conf.d/default.conf:ro"]
    ports: ["8080:80"]
    depends_on: [web]
  web: {image: web}
  api: {image: api}
"""
CONF = """\
upstream api { server api:9000 max_fails=3; }
server {
  listen 80;
  server_name localhost;
  location / { proxy_pass http://web:3000; proxy_set_header Host $host; }
  location /api { proxy_pass http://api; }
}
"""


def test_nginx_is_replaced_where_all_of_it_is_understood() -> None:
    made = imported(NGINX, {"nginx.conf": CONF})
    routes = {name: (s.port, s.route and s.route.path) for name, s in made.stack.services.items()}
    assert routes == {"web": (3000, "/"), "api": (9000, "/api")}
    assert made.stack.edge.listen == "*:8080"
    assert made.line("services.proxy.volumes[0]").text == "its rules are routes of the services now"


def test_a_folder_of_files_of_nginx_is_read_as_nginx_reads_it() -> None:
    text = NGINX.replace("./nginx.conf:/etc/nginx/conf.d/default.conf", "./d:/etc/nginx/conf.d")
    files = {"d/a.conf": CONF, "d/b.conf": "gzip on;", "d/notes.txt": "auth_basic x;"}
    made = imported(text, files)
    assert "proxy" not in made.stack.services
    assert made.tree == imported(NGINX, {"nginx.conf": CONF}).tree
    assert made.kind("services.proxy.volumes[0]") == "kept"
    made = imported(text, {**files, "d/b.conf": "auth_basic x;"})
    assert "proxy is nginx, and stays: it does more" in " ".join(made.result.warned)


def test_nginx_passes_on_below_one_path_what_several_rules_say() -> None:
    more = """\
events { worker_connections 1024; }
http {
  include mime.types;
  server { listen 80; server_name a.example.com; client_max_body_size 10m;
    location /static { proxy_pass http://web:3000; } location / { proxy_pass http://web:3000; } }
  server { listen 80 default_server; location / { proxy_pass http://api:9000; } }
}
"""
    made = imported(NGINX, {"nginx.conf": more})
    web, api = (made.stack.services[name].route for name in ("web", "api"))
    assert web is not None and (web.host, web.path) == ("a.example.com", "/")
    assert api is not None and (api.host, api.path) == (None, "/")


def test_nginx_stays_where_one_of_its_files_is_not_understood() -> None:
    volumes = '["./nginx.conf:/etc/nginx/conf.d/default.conf:ro", "./b:/etc/nginx/conf.d/b.conf"]'
    text = NGINX.replace('["./nginx.conf:/etc/nginx/conf.d/default.conf:ro"]', volumes)
    assert text != NGINX
    for other in ({}, {"b": "server { location /b { root /srv; } }"}):
        assert "proxy" in imported(text, {"nginx.conf": CONF, **other}).stack.services
    assert "proxy" not in imported(text, {"nginx.conf": CONF, "b": "gzip on;"}).stack.services


@pytest.mark.parametrize(
    "conf",
    [
        None,
        CONF.replace("location /api", "location ~ api"),
        CONF.replace("http://api;", "http://api/v1/;"),
        CONF.replace("http://web:3000", "http://nobody:1"),
        CONF.replace("listen 80;", "listen 80; root /srv;"),
        CONF.replace("listen 80;", "listen 80; auth_request /login;"),
        CONF.replace("listen 80;", "listen 443 ssl;"),
        CONF.replace("location /api", "location = /api"),
        CONF.replace("location /api", "location /web { proxy_pass http://api; } location /api"),
        CONF.replace("server api:9000 max_fails=3;", "ip_hash; server api:9000;"),
        "deny all;" + CONF,
        "server { location / { root /srv; } }",
        "server {",
        "}}}",
    ],
)
def test_nginx_stays_where_it_does_more(conf: str | None) -> None:
    made = imported(NGINX, {} if conf is None else {"nginx.conf": conf})
    assert set(made.stack.services) == {"proxy", "web", "api"}
    assert "proxy is nginx, and stays" in " ".join(made.result.warned)


CADDY = """\
services:
  front:
    image: caddy:2
    ports: ["80:80", "443:443", "443:443/udp"]
    volumes: ["./Caddyfile:/etc/caddy/Caddyfile", "certs:/data"]
  web: {image: web}
  api: {image: api}
volumes: {certs: }
"""
SITE = """\
{
    email me@example.com
}
# ours
shop.example.com {
    encode gzip
    handle /api/* {
        reverse_proxy api:9000
    }
    reverse_proxy web:3000
}
"""


def test_caddy_is_replaced_where_all_of_it_is_understood() -> None:
    made = imported(CADDY, {"Caddyfile": SITE})
    routes = {name: (s.port, s.route and s.route.path) for name, s in made.stack.services.items()}
    assert routes == {"web": (3000, "/"), "api": (9000, "/api")}
    assert (made.stack.domains, made.stack.tls) == (("shop.example.com",), "auto")
    assert made.kind("services.front.ports[1]") == "kept"
    assert made.kind("services.front.ports[2]") == "emulated"


@pytest.mark.parametrize(
    "site",
    [
        None,
        SITE.replace("encode gzip", "basic_auth { }"),
        SITE.replace("api:9000", "api:9000 other:9000"),
        SITE.replace("handle", "handle_path"),
        SITE.replace("/api/*", "/api"),
        SITE.replace("encode gzip", "tls internal"),
        SITE.replace("shop.example.com", "http://shop.example.com"),
        SITE.replace("reverse_proxy web:3000", "reverse_proxy /x/* api:9000"),
        SITE.replace("web:3000", "nobody:3000"),
        SITE.removesuffix("}\n"),
        ":80 {\n  root * /srv\n  file_server\n}\n",
        "import x",
    ],
)
def test_caddy_stays_where_it_does_more(site: str | None) -> None:
    made = imported(CADDY, {} if site is None else {"Caddyfile": site})
    assert set(made.stack.services) == {"front", "web", "api"}
    assert "front is caddy, and stays" in " ".join(made.result.warned)


def test_labels_of_a_swarm_and_of_traefik_1() -> None:
    made = imported(
        """\
services:
  proxy: {image: "traefik:v2.11", ports: ["80:80"], command: --providers.docker.swarmmode}
  web:
    image: web
    deploy:
      labels:
        - traefik.enable=true
        - traefik.constraint-label=public
        - traefik.http.routers.web.rule=Host(`a.example.com`)
        - traefik.http.services.web.loadbalancer.server.port=8000
        - other=1
  old:
    image: old
    labels:
      traefik.frontend.rule: "Host:b.example.com;PathPrefix:/old"
      traefik.port: 9000
      traefik.backend: old
      traefik.frontend.auth.basic.users: a:b
  cut: {image: cut, labels: ["traefik.frontend.rule=PathPrefixStrip:/x", traefik.port=1]}
"""
    )
    services = made.stack.services
    routes = {
        name: (s.port, s.route and (s.route.host, s.route.path)) for name, s in services.items()
    }
    assert routes["web"] == (8000, ("a.example.com", "/"))
    assert routes["old"] == (9000, ("b.example.com", "/old"))
    kinds = {
        "web.deploy.labels[0]": "kept", "web.deploy.labels[1]": "kept",
        "web.deploy.labels[2]": "kept", "web.deploy.labels[3]": "kept",
        "web.deploy.labels[4]": "emulated", "old.labels.traefik.port": "kept",
        "old.labels.traefik.frontend.rule": "kept",
        "old.labels.traefik.frontend.auth.basic.users": "refused", "cut.labels[0]": "refused",
    }  # fmt: skip
    assert {key: made.kind(f"services.{key}") for key in kinds} == kinds


def test_files_of_rules_for_traefik_that_cannot_be_read_are_refused() -> None:
    text = """\
services:
  proxy:
    image: traefik:v3
    command: ["--providers.docker", FLAG]
    environment: {VARIABLE: /rules/a.yml}
    ports: ["80:80"]
    volumes: ["./d:/rules", "./t.yml:/etc/traefik/traefik.yml:ro", "./acme:/acme", "./c:/certs"]
    configs: [{source: c, target: /more/x.toml}]
  web: {image: web, labels: ["traefik.http.services.w.loadbalancer.server.port=80"]}
configs: {c: {file: ./c.toml}}
"""
    cases = {
        "--providers.file.directory=/rules": {"command[1]", "volumes[0]"},
        "--providers.file.filename=/more/x.toml": {"command[1]", "configs[0].source",
                                                   "configs[0].target"},
        '"--file.filename /rules/a.yml"': {"command[1]", "volumes[0]"},
        "--api": set(),
    }  # fmt: skip
    for flag, refused in cases.items():
        lines = imported(text.replace("FLAG", flag)).result.lines
        found = {line.key for line in lines if line.kind == "refused"}
        assert found == {f"services.proxy.{key}" for key in {*refused, "volumes[1]"}}, flag
    made = imported(text.replace("VARIABLE", "TRAEFIK_PROVIDERS_FILE_FILENAME"))
    assert made.kind("services.proxy.volumes[0]") == "refused"
    assert made.kind("services.proxy.environment.TRAEFIK_PROVIDERS_FILE_FILENAME") == "refused"


def test_what_traefik_is_told_to_leave_alone_stays_private() -> None:
    text = """\
services:
  proxy: {image: "traefik:v3", ports: ["80:80"]}
  web:
    image: web
    labels:
      traefik.enable: ENABLED
      traefik.http.routers.w.rule: PathPrefix(`/`)
      traefik.http.services.w.loadbalancer.server.port: 5432
"""
    closed = imported(text.replace("ENABLED", '"false"')).stack.services["web"]
    assert (closed.port, closed.route) == (5432, None)
    assert imported(text.replace("ENABLED", '"true"')).stack.services["web"].route is not None
