"""Mapping: stores become data, what is secret becomes a secret."""

from __future__ import annotations

import json

from .made import imported

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
    assert {name: (d.type, d.image, d.version) for name, d in data.items()} == {
        "db": ("postgres", "docker.io/library/postgres:16.2-alpine", None),
        "cache": ("redis", "valkey/valkey:8", None),
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
    assert made.kind("services.db.image") == made.kind("services.cache.image") == "kept"
    assert made.result.warned == (
        "db begins empty: docker compose exec -T db pg_dump --no-owner -U shop shop | "
        "gapless connect db",
        "pgadmin: user and password of db are made by gapless: "
        "gapless run pgadmin -- printenv DB_URL",
    )
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
    secrets: [db-pass, {source: key, target: /etc/key, mode: 0400}]
    healthcheck: {test: ask --password="$$(cat /run/secrets/db-pass)"}
    environment:
      DB_PASSWORD_FILE: /run/secrets/db-pass
      DB_PASSWORD: /run/secrets/db-pass
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
        "DB_PASSWORD_FILE": "/run/secrets/db-pass", "API_TOKEN": "${secret.TOKEN}",
        "TOKEN_TTL": "60", "DB_PASSWORD": "/run/secrets/db-pass",
    }  # fmt: skip
    assert {place: volume.secret for place, volume in web.volumes.items()} == {
        "/run/secrets/db-pass": "DB_PASS", "/etc/key": "KEY",
    }  # fmt: skip
    assert web.secrets == ("SECRET_KEY", "SMTP_URL", "STRIPE_API_KEY", "TOKEN")  # no file is told
    assert two.secrets == ("TWO_STRIPE_API_KEY",)
    assert two.env == {
        "STRIPE_API_KEY": "${secret.TWO_STRIPE_API_KEY}", "OPTIONAL_TOKEN": "${env.NOT:-}",
    }  # fmt: skip
    places = {secret.name: secret.place for secret in made.result.secrets}
    assert places["TOKEN"] == ".env:1"
    assert places["SMTP_URL"] == "compose.yaml:9"
    assert places["DB_PASS"] == "./db.txt"
    for value in ("pw-1", "from-env-file", "live-key-1", "live-key-2"):
        assert value not in made.result.text
    assert made.line("services.web.secrets[0]").text == (
        '"/run/secrets/db-pass" = "${secret.DB_PASS}"'
    )
    assert made.kind("services.web.secrets[1].target") == "kept"
    assert made.kind("services.web.secrets[1].mode") == "emulated"
    assert web.ready is not None and web.ready.command is not None


def test_a_store_is_told_of_by_variables_that_are_passed_on() -> None:
    text = """\
services:
  db: {image: "postgres:16", environment: [POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB]}
  web:
    image: web
    environment: {DB_HOST: db, DB_NAME: "${POSTGRES_DB}", POSTGRES_PASSWORD: , OTHER: }
"""
    known = {
        "POSTGRES_USER": "me",
        "POSTGRES_PASSWORD": "pw-1",
        "POSTGRES_DB": "shop",
        "OTHER": "x",
    }
    made = imported(text, environ=known)
    assert set(made.stack.data) == {"db"}
    assert made.stack.services["web"].env == {
        "DB_HOST": "${db.host}", "DB_NAME": "${db.database}",
        "POSTGRES_PASSWORD": "${db.password}", "OTHER": "${env.OTHER:-x}",
    }  # fmt: skip


def test_a_password_may_be_the_word_password() -> None:
    text = """\
services:
  db: {image: "postgres:16", environment: {POSTGRES_PASSWORD: password}}
  cache: {image: "redis:7"}
  web:
    image: web
    environment:
      DATABASE_URL: postgres://postgres:password@db/shop?pool=5
      REDIS_URL: redis://cache:6379/1
      PLAIN: the password
"""
    made = imported(text)
    assert made.stack.secrets == ("PLAIN",)
    assert set(made.stack.services["web"].env) == {"DATABASE_URL", "REDIS_URL"}


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


PASSWORDS = """\
services:
  web: {image: web, environment: {CACHE_HOST: cache, CACHE_PASSWORD: "${PW:?set me}"}}
  cache: {image: "redis:7", command: "redis-server --requirepass ${PW:?what else}"}
"""


def test_a_password_that_nobody_has_set_yet_is_known_by_its_variable() -> None:
    assert imported(PASSWORDS).stack.services["web"].env == {
        "CACHE_HOST": "${cache.host}", "CACHE_PASSWORD": "${cache.password}",
    }  # fmt: skip
    assert "cache" in imported(PASSWORDS, environ={"PW": "abc"}).stack.data
    another = imported(PASSWORDS.replace("${PW:?what", "${OTHER:?what")).stack
    assert another.services["cache"].image == "redis:7"


def test_clients_of_a_store_with_its_image_are_no_stores() -> None:
    text = """\
services:
  web: {image: web, environment: {URL: "postgres://a:b@db/a"}}
  db: {image: "postgres:16", command: CMD, environment: {POSTGRES_PASSWORD: b}}
"""
    for command in ("psql -h other -U postgres", "[pg_dump, -U, postgres]", "/backup.sh"):
        assert "db" in imported(text.replace("CMD", command)).stack.services, command
    for command in (
        "-c work_mem=8MB", "postgres -c a=b", "docker-entrypoint.sh postgres", '""',
        "sh -c 'chown -R 70 /x && exec postgres'", "[/usr/local/bin/postgres]",
    ):  # fmt: skip
        assert "db" in imported(text.replace("CMD", command)).stack.data, command


def test_a_file_may_say_that_a_store_stays_an_image() -> None:
    text = """\
services:
  web: {image: web, environment: {URL: "postgres://a:b@db/a"}}
  db: {image: "postgres:16", x-gapless: image, environment: {POSTGRES_PASSWORD: b}}
"""
    made = imported(text)
    assert made.stack.services["db"].image == "postgres:16"
    assert made.kind("services.db.x-gapless") == "kept"
    other = imported(text.replace("x-gapless: image", "x-gapless: {keep: true}"))
    assert "db" in other.stack.data
    assert other.kind("services.db.x-gapless.keep") == "refused"


def test_a_store_that_stays_begins_as_its_image_does() -> None:
    text = """\
services:
  web: {image: web, depends_on: [db]}
  db: {image: postgres, user: USER, volumes: ["data:/var/lib/postgresql/data"]}
volumes: {data: }
"""
    made = imported(text.replace("USER", "postgres"))
    assert (made.kind("services.db.user"), made.stack.services["db"].user) == ("emulated", None)
    made = imported(text.replace("USER", '"1000"'))
    assert (made.kind("services.db.user"), made.stack.services["db"].user) == ("kept", "1000")
