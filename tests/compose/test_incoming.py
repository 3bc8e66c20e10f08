"""Mapping: services, jobs, stores, balancers, health, limits, volumes; no key is lost."""

from __future__ import annotations

import json

import pytest

from gapless.compose import fates

from .made import imported


def test_ports_and_routes() -> None:
    made = imported(
        """\
services:
  api: {image: api, ports: ["127.0.0.1:8000:8000"]}
  web: {image: web, ports: ["80:3000", "3001:3001"]}
  inner: {image: inner, expose: [9000]}
  mail: {image: mail, ports: ["1025:1025", "53:53/udp"]}
  talk: {image: talk, ports: [{target: 8080, published: "8081", protocol: tcp, mode: host}]}
  db: {image: "mysql:8", ports: ["3306:3306"]}
  me: {image: me, environment: {INNER: "http://inner:9000/v1", API: "http://api:8000"}}
"""
    )
    services = made.stack.services
    routes = {
        name: (s.port, s.route and (s.route.host, s.route.path)) for name, s in services.items()
    }
    assert routes == {
        "api": (8000, ("api.localhost", "/")),
        "web": (3000, (None, "/")),
        "inner": (9000, None),
        "mail": (None, (None, "/")),
        "talk": (8080, ("talk.localhost", "/")),
        "db": (None, (None, "/")),
        "me": (None, (None, "/")),
    }
    assert made.stack.edge.listen == "*:80"
    assert services["me"].env == {"INNER": "${inner.url}/v1", "API": "${api.url}"}
    kinds = {
        "services.web.ports[0]": "kept",
        "services.web.ports[1]": "refused",
        "services.api.ports[0]": "emulated",
        "services.inner.expose[0]": "kept",
        "services.mail.ports[1]": "refused",
        "services.db.ports[0]": "refused",
    }
    assert {key: made.kind(key) for key in kinds} == kinds


def test_jobs() -> None:
    made = imported(
        """\
services:
  web:
    image: web
    depends_on: {migrate: {condition: service_completed_successfully}}
  migrate: {image: web, command: migrate, deploy: {replicas: 3}}
  seed: {image: web, restart: "no", command: [seed], depends_on: [web], healthcheck: {test: x}}
  once: {image: web, deploy: {restart_policy: {condition: none}}}
  shop: {image: web, restart: "no", ports: ["80:80"]}
"""
    )
    assert {name: job.when for name, job in made.stack.jobs.items()} == {
        "migrate": "release", "seed": "after-release", "once": "release",
    }  # fmt: skip
    assert list(made.stack.services) == ["web", "shop"]
    assert made.kind("services.web.depends_on.migrate.condition") == "kept"
    assert made.kind("services.shop.restart") == "emulated"


STORES = """\
services:
  web:
    image: web
    depends_on: {db: {condition: service_healthy}}
    environment:
      DATABASE_URL: postgresql://shop:s3cret@db:5432/shop
      ASYNC_URL: postgresql+asyncpg://shop:s3cret@db/shop?ssl=disable
      CACHE_URL: redis://cache:6379/0
      BROKER_URL: redis://cache:6379/1
      PGHOST: db
      PGUSER: shop
      PGPASSWORD: s3cret
      PGDATABASE: shop
      PGPORT: 5432
      OTHER_USER: shop
  db:
    image: docker.io/library/postgres:16.2-alpine
    command: postgres -c max_connections=200
    environment: {POSTGRES_USER: shop, POSTGRES_PASSWORD: s3cret}
    volumes: ["pg:/var/lib/postgresql/data", "./init.sql:/docker-entrypoint-initdb.d/a.sql"]
    ports: ["5432:5432"]
  cache:
    image: valkey/valkey:8
    command: [valkey-server, --maxmemory, 100mb, --requirepass, "", --save, ""]
  pgadmin: {image: dpage/pgadmin4, depends_on: [db], ports: ["5050:80"]}
volumes: {pg: }
"""


def test_stores_become_data_and_their_addresses_references() -> None:
    made = imported(STORES)
    data = made.stack.data
    assert {name: (d.type, d.version) for name, d in data.items()} == {
        "db": ("postgres", 16), "cache": ("redis", None),
    }  # fmt: skip
    assert data["db"].settings == {"max_connections": "200"}
    assert data["cache"].settings == {"maxmemory": "100mb"}
    assert made.stack.services["web"].env == {
        "DATABASE_URL": "${db.url}",
        "ASYNC_URL": "postgresql+asyncpg://${db.user}:${db.password|url}@${db.host}:${db.port}"
        "/${db.database}?ssl=disable",
        "CACHE_URL": "${cache.url}",
        "BROKER_URL": "redis://:${cache.password|url}@${cache.host}:${cache.port}/1",
        "PGHOST": "${db.host}",
        "PGUSER": "${db.user}",
        "PGPASSWORD": "${db.password}",
        "PGDATABASE": "${db.database}",
        "PGPORT": "${db.port}",
        "OTHER_USER": "shop",
    }
    assert "s3cret" not in made.result.text + json.dumps([line.text for line in made.result.lines])
    assert made.kind("services.db.volumes[1]") == "refused"
    assert made.kind("services.db.ports[0]") == "emulated"


def test_a_store_that_a_program_knows_by_heart_stays_an_image() -> None:
    made = imported(
        """\
services:
  web: {image: web, depends_on: [db, cache], environment: {CACHE_HOST: cache}}
  db: {image: "postgres:16", environment: {POSTGRES_PASSWORD: a}, volumes: ["pg:/var/lib/pg"]}
  cache: {image: "redis:7"}
  queue: {image: "rabbitmq:3"}
  stream: {image: "bitnami/kafka:3"}
volumes: {pg: }
"""
    )
    assert set(made.stack.services) == {"web", "db", "cache", "queue", "stream"}
    assert made.stack.services["db"].volumes["/var/lib/pg"].store == "pg"
    assert made.stack.data["pg"].type == "files"
    warned = " ".join(made.result.warned)
    assert "db is postgres, and stays an image: web" in warned
    assert "queue is rabbitmq" in warned
    assert "stream is kafka" in warned


def test_secrets() -> None:
    made = imported(
        """\
services:
  web:
    image: web
    secrets: [db-pass, {source: key, target: /etc/key}]
    environment:
      DB_PASSWORD_FILE: /run/secrets/db-pass
      SMTP_URL: smtp://me:pw-1@mail
      API_TOKEN: ${TOKEN:?}
      STRIPE_API_KEY: live-key-1
      TOKEN_TTL: "60"
      SECRET_KEY: ${SECRET_KEY:-dev-only}
  two: {image: two, environment: {STRIPE_API_KEY: live-key-2, OPTIONAL_TOKEN: "${NOT:-}"}}
secrets:
  db-pass: {file: ./db.txt}
  key: {environment: KEY}
""",
        {".env": "TOKEN=from-env-file\n"},
    )
    web, two = made.stack.services["web"], made.stack.services["two"]
    assert made.stack.secrets == (
        "DB_PASS", "KEY", "SECRET_KEY", "SMTP_URL", "STRIPE_API_KEY", "TOKEN", "TWO_STRIPE_API_KEY",
    )  # fmt: skip
    assert web.env == {
        "DB_PASSWORD": "${secret.DB_PASS}", "API_TOKEN": "${secret.TOKEN}", "TOKEN_TTL": "60",
    }  # fmt: skip
    assert two.secrets == ("TWO_STRIPE_API_KEY",)
    assert two.env == {
        "STRIPE_API_KEY": "${secret.TWO_STRIPE_API_KEY}", "OPTIONAL_TOKEN": "${env.NOT:-}",
    }  # fmt: skip
    places = {secret.name: secret.place for secret in made.result.secrets}
    assert places["TOKEN"] == ".env:1"
    assert places["SMTP_URL"] == "compose.yaml:7"
    assert places["DB_PASS"] == "./db.txt"
    for value in ("pw-1", "from-env-file", "live-key-1", "live-key-2"):
        assert value not in made.result.text
    assert made.kind("services.web.secrets[0]") == "emulated"
    assert made.kind("services.web.secrets[1].target") == "refused"


def test_a_secret_is_not_written_wherever_it_stands() -> None:
    made = imported(
        """\
services:
  db:
    image: mssql
    environment: {SA_PASSWORD: example_123}
    healthcheck: {test: sqlcmd -U sa -P example_123}
    command: [run, "--password=${SA_PW:-x}", more]
  app:
    build: {args: [A=$SA_TOKEN, B=a-example_123, C=c]}
    command: "serve --key example_123"
    environment: {CONNECT: "Server=db;Password=example_123", LEVEL: info}
  look:
    image: look
    healthcheck: {test: "curl http://localhost:80/health?key=example_123"}
    ports: ["80:80"]
""",
        environ={"SA_TOKEN": "example_456"},
    )
    assert "example_" not in made.result.text
    for key in (
        "db.healthcheck.test", "db.command[1]", "app.command", "app.build.args[0]",
        "app.build.args[1]", "look.healthcheck.test",
    ):  # fmt: skip
        assert made.kind(f"services.{key}") == "refused"
    app = made.stack.services["app"]
    assert app.build is not None
    assert (app.build.args, app.env, app.secrets) == ({"C": "c"}, {"LEVEL": "info"}, ("CONNECT",))
    assert made.kind("services.app.environment.CONNECT") == "kept"


def test_a_secret_that_is_a_word_does_not_hide_every_word() -> None:
    made = imported(
        """\
services:
  db:
    image: postgis/postgis
    environment: {POSTGRES_PASSWORD: postgres, POSTGRES_USER: postgres}
    healthcheck: {test: pg_isready -U postgres}
  app:
    image: app
    environment: {APP_PASSWORD: example}
    command: [serve, --example-file, examples.yaml]
  sql: {image: sql, command: mysqladmin ping -pexample}
"""
    )
    services = made.stack.services
    assert services["db"].ready is not None
    assert services["app"].run == ("serve", "--example-file", "examples.yaml")
    assert made.kind("services.sql.command") == "refused"


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


def test_health_limits_and_updates() -> None:
    made = imported(
        """\
services:
  web:
    image: web
    expose: [8000]
    stop_grace_period: 1m30s
    user: "1000:1000"
    working_dir: /srv
    entrypoint: /entry.sh --now
    healthcheck:
      test: curl -f http://localhost:8000/healthz?full=1 || exit 1
      interval: 1m
      timeout: 3s
      retries: 5
      start_period: 90s
    deploy:
      replicas: 2
      resources:
        limits: {cpus: "0.5", memory: 1.5G, pids: 100}
        reservations: {cpus: "0.25", memory: 64M}
      update_config: {parallelism: 2, order: start-first, failure_action: rollback, monitor: 10s}
      restart_policy: {condition: on-failure, delay: 5s}
  worker:
    image: worker
    stop_grace_period: 5m
    cpus: 1
    mem_limit: 512m
    mem_reservation: 100m
    scale: 3
    healthcheck: {test: [CMD, ping, -c1]}
  none: {image: none, healthcheck: {disable: true}}
"""
    )
    web, worker = made.stack.services["web"], made.stack.services["worker"]
    assert web.ready is not None
    assert (web.ready.path, web.ready.every, web.ready.after) == ("/healthz?full=1", 60, 5)
    assert (web.grace, web.start, web.watch, web.surge, web.replicas) == (90, 90, 10, 2, 2)
    assert (web.limits.cpu, web.limits.memory) == (0.5, 1536 * 1024**2)
    assert (web.reserve.cpu, web.reserve.memory) == (0.25, 64 * 1024**2)
    assert (web.user, web.cwd, web.entrypoint) == ("1000:1000", "/srv", ("/entry.sh", "--now"))
    assert made.kind("services.web.deploy.resources.limits.pids") == "refused"
    assert (worker.drain, worker.limits.memory, worker.replicas) == (300, 512 * 1024**2, 3)
    assert worker.ready is not None
    assert worker.ready.command == ("ping", "-c1")
    assert made.stack.services["none"].ready is None


def test_volumes_and_configs() -> None:
    made = imported(
        """\
services:
  web:
    image: web
    volumes:
      - media:/media
      - ./conf:/etc/web:ro,z
      - /var/run/x.sock:/x.sock
      - ~/data:/home
      - ../out:/out
      - /anonymous
      - {type: tmpfs, target: /tmp}
      - {type: bind, source: ./b, target: /b, bind: {create_host_path: true}}
      - {type: volume, source: media, target: /m2, volume: {nocopy: true, subpath: x, odd: 1}}
      - "relative:no"
    configs: [conf, {source: inline, target: /etc/inline}]
  worker: {image: worker, volumes: ["media:/media"]}
volumes: {media: {driver: local}, far: {external: true}}
configs:
  conf: {file: ./web.conf}
  inline: {content: "a=1"}
""",
        environ={"HOME": "/home/me"},
    )
    volumes = made.stack.services["web"].volumes
    assert {place: v.source for place, v in volumes.items()} == {
        "/media": "${media.path}", "/etc/web": "conf", "/x.sock": "/var/run/x.sock",
        "/home": "/home/me/data", "/b": "b", "/m2": "${media.path}/x", "/conf": "web.conf",
    }  # fmt: skip
    assert volumes["/etc/web"].read_only
    assert made.stack.services["worker"].volumes["/media"].store == "media"
    assert made.kind("services.web.volumes[4]") == "refused"
    assert made.kind("services.web.volumes[9]") == "refused"
    assert made.kind("services.web.volumes[8].volume.odd") == "refused"
    assert made.kind("services.web.configs[1].source") == "refused"


def test_builds() -> None:
    made = imported(
        """\
services:
  a: {build: ./a}
  b:
    image: named
    build: {context: b, dockerfile: d/File, target: prod, args: [X=1, Y], cache_from: [z]}
  c: {build: {context: ../up}}
  d: {build: "https://example.com/x.git"}
  e: {build: {args: {API_KEY: k}}}
""",
        environ={"Y": "2"},
    )
    services = made.stack.services
    assert services["a"].build is not None
    assert services["a"].build.context == "a"
    assert services["b"].build is not None
    assert services["b"].build.args == {"X": "1", "Y": "2"}
    for key in ("b.build.cache_from[0]", "c.build.context", "d.build", "e.build.args.API_KEY"):
        assert made.kind(f"services.{key}") == "refused"


def test_names_are_made_to_fit() -> None:
    made = imported(
        """\
name: My_Shop
services:
  web_app: {image: a}
  web-app: {image: b}
  edge: {image: c, environment: {discovery.type: one, "A B": x}}
  1st: {image: d}
"""
    )
    assert made.stack.name == "my-shop"
    assert set(made.stack.services) == {"web-app", "web-app-2", "edge-2", "st"}
    assert made.stack.services["edge-2"].env == {"discovery.type": "one"}
    assert made.kind("services.edge.environment.A B") == "refused"


@pytest.mark.parametrize("key", sorted(fates.SERVICE))
def test_a_key_without_equivalent_is_told(key: str) -> None:
    made = imported(f"services:\n  web:\n    image: a\n    {key}: [x]\n")
    line = made.line(f"services.web.{key}[0]")
    assert (line.kind, line.text) == fates.SERVICE[key]


def test_a_key_that_nobody_knows_is_refused() -> None:
    made = imported("services: {web: {image: a, imaeg: b}}\nservicse: {}\n")
    assert made.kind("services.web.imaeg") == "refused"
    assert made.kind("services.web.image") == "kept"
    assert made.result.text
