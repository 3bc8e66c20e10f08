"""Mapping: Traefik's labels, nginx's and Caddy's files become routes, where all is understood."""

from __future__ import annotations

import pytest

from .made import Made, imported

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


def test_files_of_rules_for_traefik_are_not_read_and_that_is_said() -> None:
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


HAPROXY = """\
services:
  lb:
    image: haproxy:2.9-alpine
    ports: ["80:80", "8404:8404"]
    volumes: ["./haproxy:/usr/local/etc/haproxy:ro"]
    depends_on: [web, api]
  web: {image: web, expose: [3000]}
  api: {image: api}
"""
CFG = """\
global
    maxconn 4096
    stats socket /var/run/haproxy.sock mode 660
defaults
    mode http
    option httplog
    option forwardfor
    timeout connect 5s
frontend http   # the public
    bind *:80
    acl is_api path_beg /api
    acl is_api path_beg /v2
    use_backend apis if is_api { hdr(host) -i shop.example.com }
    default_backend pages
backend pages
    balance leastconn
    cookie SERVERID insert indirect nocache
    server-template web 3 web:3000 check resolvers docker
backend apis
    option httpchk GET /health
    http-request set-header X-Forwarded-Proto https
    server a1 api:9000 check
resolvers docker
    nameserver dns1 127.0.0.11:53
frontend stats
    bind *:8404
    stats enable
    stats uri /stats
"""
BESIDE = HAPROXY.replace("./haproxy:/usr/local/etc/haproxy:ro", "./a.cfg:/etc/haproxy/haproxy.cfg")
ONE = CFG.replace("    acl is_api path_beg /v2\n", "")


def test_haproxy_is_replaced_where_all_of_it_is_understood() -> None:
    made = imported(BESIDE, {"a.cfg": ONE})
    assert set(made.stack.services) == {"web", "api"}
    web, api = made.stack.services["web"], made.stack.services["api"]
    assert (web.port, web.sticky, api.port, api.sticky) == (3000, "cookie", 9000, None)
    assert web.route is not None and (web.route.host, web.route.path) == (None, "/")
    assert api.route is not None
    assert (api.route.host, api.route.path) == ("shop.example.com", "/api")
    assert made.stack.edge.listen == "*:80"
    assert made.kind("services.lb.ports[1]") == "emulated"
    # In a folder of its own it is found as well.
    assert set(imported(HAPROXY, {"haproxy/haproxy.cfg": ONE}).stack.services) == {"web", "api"}


@pytest.mark.parametrize(
    "cfg",
    [
        None,
        CFG,  # two paths of one service
        ONE.replace("mode http", "mode tcp"),
        ONE.replace("bind *:80", "bind *:443 ssl crt /certs"),
        ONE.replace("balance leastconn", "balance source"),
        ONE.replace("path_beg /api", "path_reg ^/api"),
        ONE.replace("path_beg /api", "path /api"),
        ONE.replace("if is_api", "unless is_api"),
        ONE.replace("if is_api", "if !is_api"),
        ONE.replace("a1 api:9000", "a1 other:9000"),
        ONE.replace("option httpchk", "http-request deny\n option httpchk"),
        ONE.replace("frontend stats", "frontend other").replace(
            "stats enable", "default_backend apis"
        ),
        # The first that fits counts there, the nearer one here.
        ONE.replace("    use_backend", "    use_backend pages if { path_beg / }\n    use_backend"),
        "frontend 'x",
        "server a b:1",
    ],
)
def test_haproxy_stays_where_it_does_more(cfg: str | None) -> None:
    made = imported(BESIDE, {} if cfg is None else {"a.cfg": cfg})
    assert set(made.stack.services) == {"lb", "web", "api"}
    assert "lb is haproxy, and stays" in " ".join(made.result.warned)


HOSTS = """\
services:
  proxy:
    image: nginxproxy/nginx-proxy:1.6
    ports: ["80:80", "443:443"]
    volumes: ["/var/run/docker.sock:/tmp/docker.sock:ro", "certs:/etc/nginx/certs"]
  acme:
    image: nginxproxy/acme-companion
    environment: {DEFAULT_EMAIL: me@example.com}
    volumes_from: [proxy]
  web:
    image: web
    expose: [3000]
    environment:
      VIRTUAL_HOST: shop.example.com
      LETSENCRYPT_HOST: shop.example.com
      LETSENCRYPT_EMAIL: me@example.com
  api:
    image: api
    environment: {VIRTUAL_HOST: shop.example.com, VIRTUAL_PATH: /api, VIRTUAL_PORT: "9000"}
  bare:
    image: bare
    environment: [VIRTUAL_HOST=bare.example.com]
volumes: {certs: }
"""


def routes(made: Made) -> dict[str, tuple[int | None, str | None, str | None]]:
    return {
        name: (one.port, one.route.host, one.route.path)
        for name, one in made.stack.services.items()
        if one.route is not None
    }


def test_services_that_tell_nginx_proxy_who_they_are() -> None:
    made = imported(HOSTS)
    assert routes(made) == {
        "web": (3000, "shop.example.com", "/"),
        "api": (9000, "shop.example.com", "/api"),
        "bare": (80, "bare.example.com", "/"),
    }
    assert made.stack.domains == ("shop.example.com", "bare.example.com")
    assert made.kind("services.bare.environment[0]") == "emulated"
    assert made.line("services.web.environment.VIRTUAL_HOST").text == "route = shop.example.com/"
    assert not [line for line in made.result.lines if line.kind == "refused"]
    text = HOSTS.replace("VIRTUAL_PATH: /api", "VIRTUAL_PATH: /api, VIRTUAL_DEST: /")
    assert imported(text).kind("services.api.environment.VIRTUAL_DEST") == "refused"
    text = HOSTS.replace("certs:/etc/nginx/certs", "./v:/etc/nginx/vhost.d")
    assert imported(text).kind("services.proxy.volumes[1]") == "refused"


LABELS = """\
services:
  caddy:
    image: lucaslorentz/caddy-docker-proxy:2.9-alpine
    ports: ["80:80", "443:443", "443:443/udp"]
    volumes: ["/var/run/docker.sock:/var/run/docker.sock", "data:/data"]
  web:
    image: web
    labels:
      caddy: shop.example.com
      caddy.reverse_proxy: "{{upstreams 3000}}"
      caddy.encode: gzip
  api:
    image: api
    labels:
      - caddy_0=shop.example.com
      - caddy_0.reverse_proxy=/api/* {{upstreams 9000}}
  odd:
    image: odd
    labels: {caddy: odd.example.com, caddy.handle_path: /x/*, caddy.basicauth: x}
volumes: {data: }
"""


def test_services_that_tell_caddy_who_they_are() -> None:
    made = imported(LABELS)
    assert routes(made) == {
        "web": (3000, None, "/"), "api": (9000, None, "/api"), "odd": (None, None, "/"),
    }  # fmt: skip
    assert made.stack.domains == ("shop.example.com",)
    assert made.kind("services.web.labels.caddy.encode") == "kept"
    for key in ("caddy", "caddy.handle_path", "caddy.basicauth"):
        assert made.kind(f"services.odd.labels.{key}") == "refused"
    assert "services say of themselves" not in " ".join(made.result.warned)
    alone = imported(LABELS.replace("lucaslorentz/caddy-docker-proxy:2.9-alpine", "other"))
    assert "services say of themselves" in " ".join(alone.result.warned)
