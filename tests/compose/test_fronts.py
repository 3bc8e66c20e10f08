"""Mapping: HAProxy's and Traefik's files, and what services tell a proxy of themselves."""

from __future__ import annotations

import pytest

from .made import Made, imported

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


RULED = """\
services:
  proxy:
    image: traefik:v3
    ports: ["80:80"]
    volumes: ["./t/traefik.yml:/etc/traefik/traefik.yml:ro", "./t/rules.yml:/etc/traefik/rules.yml"]
  web: {image: web}
  api: {image: api}
"""
OWN = """\
entryPoints: {web: {address: ":80"}}
providers:
  docker: {exposedByDefault: false}
  file: {filename: /etc/traefik/rules.yml, watch: true}
log: {level: INFO}
"""
RULES = """\
http:
  routers:
    web: {rule: "Host(`shop.localhost`)", service: web}
    api: {rule: "Host(`shop.localhost`) && PathPrefix(`/api`)", service: api@file}
  services:
    web:
      loadBalancer: {servers: [{url: "http://web:3000"}], sticky: {cookie: {}}}
    api:
      loadBalancer: {servers: [{url: "http://api/"}], passHostHeader: true}
"""


def test_files_of_rules_for_traefik_become_routes_where_all_is_understood() -> None:
    made = imported(RULED, {"t/traefik.yml": OWN, "t/rules.yml": RULES})
    assert routes(made) == {
        "web": (3000, "shop.localhost", "/"), "api": (80, "shop.localhost", "/api"),
    }  # fmt: skip
    assert made.stack.services["web"].sticky == "cookie"
    assert {line.kind for line in made.result.lines} <= {"kept", "emulated"}
    flag = "    command: --providers.file.directory=/etc/traefik\n    ports:"
    made = imported(RULED.replace("    ports:", flag), {"t/traefik.yml": OWN, "t/rules.yml": RULES})
    assert made.kind("services.proxy.command") == "kept"


def test_rules_for_traefik_in_a_mounted_folder() -> None:
    text = RULED.replace("./t/rules.yml:/etc/traefik/rules.yml", "./d:/rules:ro")
    files = {"t/traefik.yml": OWN.replace("/etc/traefik/rules", "/rules/a"), "d/a.yml": RULES}
    made = imported(text, {**files, "d/b.yml": "a: 1"})
    assert set(routes(made)) == {"web", "api"}
    assert made.kind("services.proxy.volumes[1]") == "kept"
    files["t/traefik.yml"] = OWN.replace("filename: /etc/traefik/rules.yml", "directory: /rules")
    assert routes(imported(text, files)) == routes(made)
    for name in ("d/b.yml", "d/b.yaml", "d/b.toml"):  # and which is read first is nobody's word
        again = imported(text, {**files, name: RULES})
        assert again.kind("services.proxy.volumes[1]") == "refused", name


@pytest.mark.parametrize(
    ("own", "rules"),
    [
        (OWN, None),
        (OWN + "experimental: {plugins: {x: {}}}\n", RULES),
        (OWN.replace("rules.yml", "others.yml").replace("/etc/traefik/o", "/rules/o"), RULES),
        (OWN, RULES + "  middlewares: {a: {stripPrefix: {prefixes: [/api]}}}\n"),
        (OWN, RULES.replace("service: web}", "service: web, middlewares: [a]}")),
        (OWN, RULES.replace("service: web}", "service: other}")),
        (OWN, RULES.replace("PathPrefix", "PathRegexp")),
        (OWN, RULES.replace("&&", "||")),
        (OWN, RULES.replace("http://api/", "http://elsewhere:80")),
        (
            OWN,
            RULES.replace('{url: "http://web:3000"}', '{url: "http://web:1"}, {url: "http://b:1"}'),
        ),
        (OWN, RULES.replace("passHostHeader: true", "passHostHeader: false")),
        (OWN, RULES + "tls: {options: {default: {minVersion: VersionTLS13}}}\n"),
        (OWN, "http: [\n"),
    ],
)
def test_a_file_of_rules_for_traefik_that_says_more_is_refused(own: str, rules: str | None) -> None:
    files = {"t/traefik.yml": own} | ({} if rules is None else {"t/rules.yml": rules})
    made = imported(RULED, files)
    assert made.kind("services.proxy.volumes[1]") == "refused"
    assert {name: one.port for name, one in made.stack.services.items()} == {
        "web": None,
        "api": None,
    }


def test_a_rule_of_one_or_the_other_is_no_route() -> None:
    text = """\
services:
  web: {image: web, expose: [80], labels: ["traefik.http.routers.w.rule=RULE"]}
"""
    for rule, kind in (
        ("Host(`a.b`) || PathPrefix(`/x`)", "refused"),
        ("(Host(`a.b`) || Host(`c.d`)) && PathPrefix(`/x`)", "kept"),
        ("!Host(`a.b`)", "refused"),
    ):
        assert imported(text.replace("RULE", rule)).kind("services.web.labels[0]") == kind, rule
