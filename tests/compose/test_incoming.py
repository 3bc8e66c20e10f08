"""Mapping: services, jobs, health, limits, volumes, builds; no key is lost."""

from __future__ import annotations

import pytest

from gapless.compose import fates, shapes

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
    assert (web.grace, web.start, web.watch, web.surge, web.replicas) == (90, 390, 10, 2, 2)
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
    configs: [conf, {source: inline, target: /etc/inline}, told, shown]
  worker: {image: worker, volumes: ["media:/media"]}
volumes: {media: {driver: local}, far: {external: true}}
configs:
  conf: {file: ./web.conf}
  inline: {content: "a=${A} $$b"}
  told: {environment: RULES}
  shown: {content: "password=${DB_PASSWORD}"}
""",
        {"b/x": ""},
        environ={"HOME": "/home/me", "A": "1", "RULES": "all of them", "DB_PASSWORD": "x"},
    )
    volumes = made.stack.services["web"].volumes
    assert {place: v.source for place, v in volumes.items()} == {
        "/media": "${media.path}", "/etc/web": "conf", "/x.sock": "/var/run/x.sock",
        "/home": "/home/me/data", "/b": "b", "/m2": "${media.path}/x", "/conf": "web.conf",
        "/etc/inline": "configs/inline", "/told": "${secret.RULES}",
    }  # fmt: skip
    assert made.result.files == {"configs/inline": "a=1 $b"}
    assert volumes["/etc/web"].read_only
    assert made.stack.services["worker"].volumes["/media"].store == "media"
    assert made.kind("services.web.volumes[4]") == "refused"
    assert made.kind("services.web.volumes[9]") == "refused"
    assert made.kind("services.web.volumes[8].volume.odd") == "refused"
    assert made.line("services.web.configs[1].source").text == (
        '"/etc/inline" = "configs/inline", of the release'
    )
    assert made.kind("services.web.configs[3]") == "refused"  # a secret would stand in the file


def test_builds() -> None:
    made = imported(
        """\
services:
  a: {build: ./a}
  b:
    image: named
    build: {context: b, dockerfile: d/File, target: prod, args: [X=1, Y]}
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
    for key in ("c.build.context", "d.build", "e.build.args.API_KEY"):
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
    value, place = {"s": ("y", ""), "l": ("[y]", "[0]"), "m": ("{a: y}", ".a")}[
        shapes.SERVICE.get(key, "m")[0]
    ]
    made = imported(f"services:\n  web:\n    image: a\n    {key}: {value}\n")
    line = made.line(f"services.web.{key}{place}")
    assert (line.kind, line.text) == fates.SERVICE[key]


def test_a_key_that_nobody_knows_is_refused() -> None:
    made = imported("services: {web: {image: a, imaeg: b}}\nservicse: {}\n")
    assert made.kind("services.web.imaeg") == "refused"
    assert made.kind("services.web.image") == "kept"
    assert made.result.text


def test_what_asks_for_nothing_else_is_kept() -> None:
    made = imported(
        """\
services:
  web:
    image: a
    cap_add: [CHOWN, CAP_SETUID, NET_ADMIN]
    security_opt: [no-new-privileges:true, "seccomp:unconfined"]
    shm_size: 256m
    ipc: private
    privileged: false
  big: {image: b, shm_size: 1g, ipc: host, privileged: true}
  built: {build: {context: ., cache_from: [x], tags: [y], ssh: [default], x-bake: {a: b}}}
"""
    )
    kinds = {
        "web.cap_add[0]": "kept", "web.cap_add[1]": "kept", "web.cap_add[2]": "refused",
        "web.security_opt[0]": "kept", "web.security_opt[1]": "refused",
        "web.shm_size": "kept", "web.ipc": "kept", "web.privileged": "kept",
        "big.shm_size": "refused", "big.ipc": "refused", "big.privileged": "refused",
        "built.build.cache_from[0]": "emulated", "built.build.tags[0]": "emulated",
        "built.build.ssh[0]": "refused", "built.build.x-bake.a": "emulated",
    }  # fmt: skip
    assert {key: made.kind(f"services.{key}") for key in kinds} == kinds


def test_no_secret_is_written_as_part_of_a_command() -> None:
    made = imported(
        """\
services:
  queue: {image: "redis:7", command: [redis-server, --requirepass, hunter2]}
  told: {image: app, command: "sh -c 'PGPASSWORD=hunter2 go'", depends_on: [queue]}
  site: {image: app, restart: "no", command: new-site --admin-password=hunter2}
  sql: {image: "mysql:8", healthcheck: {test: [CMD, mysqladmin, ping, --password=hunter2]}}
  asks: {image: app, command: "go --api-key ${KEYS}"}
  well: {image: app, command: "go --token-ttl 30 --password-file /x --secret=$$KEY --keys a"}
"""
    )
    assert "hunter2" not in made.result.text
    for key in ("queue.command[2]", "told.command", "site.command", "sql.healthcheck.test[3]"):
        assert made.kind(f"services.{key}") == "refused"
    assert made.kind("services.asks.command") == "refused"
    assert made.kind("services.well.command") == "kept"


@pytest.mark.parametrize(
    "name", ["APP_KEY", "RAILS_MASTER_KEY", "SERVER_KEY", "FERNET_KEY", "RABBITMQ_ERLANG_COOKIE"]
)
def test_keys_are_secrets(name: str) -> None:
    made = imported(f"services: {{web: {{image: a, environment: {{{name}: hunter2}}}}}}")
    assert made.stack.secrets == (name,)
    assert "hunter2" not in made.result.text


def test_of_what_there_must_not_be_two_there_is_one() -> None:
    made = imported(
        """\
services:
  beat: {image: app, command: boot}
  clock: {image: app, command: celery -A shop beat -l info}
  shell: {image: app, command: [sh, -c, "celery -A shop.celery beat"]}
  script: {image: app, command: /start-celerybeat}
  word: {image: app, entrypoint: [/boot.sh], command: [beat]}
  both: {image: app, command: celery -A shop worker -B}
  sql: {image: "mysql:8", deploy: {update_config: {parallelism: 2}}}
  worker: {image: app, command: celery -A shop worker}
  heart: {image: app, command: heartbeat}
  many: {image: "mongo:7", deploy: {replicas: 3}}
  seen: {image: elastic/filebeat}
  said: {image: "mysql:8", deploy: {update_config: {order: start-first}}}
"""
    )
    alone = {name for name, service in made.stack.services.items() if service.singleton}
    assert alone == {"beat", "clock", "shell", "script", "word", "both", "sql"}
    assert made.kind("services.sql.deploy.update_config.parallelism") == "emulated"
    assert "singleton" in made.line("services.clock.command").text


def test_an_image_whose_build_is_out_of_reach_stays_an_image() -> None:
    made = imported(
        """\
services:
  web: {image: "shop:1", build: ../shop, ports: ["80:80"]}
  own: {image: "ghcr.io/me/server:1", ports: ["9000:9000"]}
  sql: {image: mcr.microsoft.com/mssql/server, ports: ["1434:1434"]}
"""
    )
    services = made.stack.services
    assert (services["web"].image, services["web"].build) == ("shop:1", None)
    assert (made.kind("services.web.image"), made.kind("services.web.build")) == ("kept", "refused")
    assert (services["own"].port, services["sql"].port) == (9000, None)


def test_files_limits_and_names_of_hosts_say_what_to_do() -> None:
    made = imported(
        """\
services:
  web:
    image: web
    ulimits: {nofile: {soft: 1024, hard: 65535}, memlock: -1}
    extra_hosts: ["host.docker.internal:host-gateway", "old=10.0.0.5"]
    dns_search: ""
  two: {image: two, ulimits: {nofile: 65535}, dns_search: [., a.example], extra_hosts: {}}
"""
    )
    assert {line.key.removeprefix("services."): line.kind for line in made.result.lines} == {
        "web.image": "kept", "web.ulimits.nofile.soft": "emulated",
        "web.ulimits.nofile.hard": "emulated", "web.ulimits.memlock": "refused",
        "web.extra_hosts[0]": "kept", "web.extra_hosts[1]": "kept",
        "web.dns_search": "emulated", "two.image": "kept", "two.ulimits.nofile": "emulated",
        "two.dns_search[0]": "emulated", "two.dns_search[1]": "refused", "two.extra_hosts": "kept",
    }  # fmt: skip
    assert made.stack.services["web"].hosts == {
        "host.docker.internal": "host-gateway", "old": "10.0.0.5",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("said", "kind", "hosts"),
    [
        ('["a=[::1]", "b:fd00::1"]', "kept", {"a": "::1", "b": "fd00::1"}),
        ("{a: 10.0.0.5}", "kept", {"a": "10.0.0.5"}),
        ('["a:YOUR_ADDRESS"]', "refused", {}),
        ('["nothing"]', "refused", {}),
        ('["a b:10.0.0.5"]', "refused", {}),
    ],
)
def test_names_of_hosts_stay_where_they_are(said: str, kind: str, hosts: dict[str, str]) -> None:
    made = imported(f"services: {{web: {{image: web, extra_hosts: {said}}}}}")
    assert made.stack.services["web"].hosts == hosts
    (first, *_) = (line for line in made.result.lines if "extra_hosts" in line.key)
    assert first.kind == kind


@pytest.mark.parametrize(
    ("said", "kind", "signal"),
    [("SIGINT", "kept", "INT"), ("3", "kept", "QUIT"), ("sighup", "kept", "HUP"),
     ("SIGTERM", "kept", "TERM"), ("SIGKILL", "emulated", None), ("SIGUSR1", "refused", None)],
)  # fmt: skip
def test_what_asks_a_program_to_end_stays(said: str, kind: str, signal: str | None) -> None:
    made = imported(f"services: {{web: {{image: web, stop_signal: {said}}}}}")
    assert made.stack.services["web"].signal == signal
    assert made.kind("services.web.stop_signal") == kind


def test_what_a_database_keeps_beside_its_file_becomes_a_store() -> None:
    text = """\
services:
  db: {image: "mysql:8", volumes: ["./data/mysql:/var/lib/mysql", "./my.cnf:/etc/my.cnf"]}
  web: {image: web, volumes: ["./code:/code", "./conf:/conf:ro", "./data/mysql:/old"]}
"""
    made = imported(text, {"my.cnf": "[mysqld]", "code/a.py": ""})
    db, web = made.stack.services["db"], made.stack.services["web"]
    assert {place: one.source for place, one in db.volumes.items()} == {
        "/var/lib/mysql": "${db-mysql.path}", "/etc/my.cnf": "my.cnf",
    }  # fmt: skip
    assert made.stack.data["db-mysql"].type == "files"
    assert web.volumes["/code"].source == "code"
    kinds = {key: made.kind(f"services.{key}") for key in ("db.volumes[0]", "db.volumes[1]")}
    assert kinds == {"db.volumes[0]": "emulated", "db.volumes[1]": "kept"}
    line = made.line("services.web.volumes[0]")
    assert (line.kind, "goes with it" in line.text) == ("emulated", True)
    assert made.kind("services.web.volumes[1]") == "kept"


@pytest.mark.parametrize(
    ("image", "place", "moved"),
    [
        ("mysql:8", "/docker-entrypoint-initdb.d", False),
        ("mysql:8", "/etc/mysql/conf.d", False),
        ("prom/prometheus", "/etc/prometheus", False),
        ("elasticsearch:8.1.0", "/usr/share/elasticsearch/config", False),
        ("mongo:7", "/data/configdb", True),
        ("prom/prometheus", "/prometheus", True),
    ],
)
def test_what_a_database_reads_beside_its_file_is_no_store(
    image: str, place: str, *, moved: bool
) -> None:
    text = f"services: {{db: {{image: '{image}', volumes: ['./there:{place}']}}}}"
    made = imported(text, {"there/a": ""})
    source = made.stack.services["db"].volumes[place].source
    assert source == ("${db-there.path}" if moved else "there")


def test_a_folder_that_is_not_there_yet_is_filled_by_what_runs() -> None:
    text = """\
services:
  notes: {image: notes, volumes: ["./data:/data", "./there:/there", "./x.yml:/x", "./c:/etc/c"]}
  built: {build: ./built, volumes: ["./built/src:/src", "./data:/seen"]}
"""
    made = imported(text, {"there/a": ""})
    notes, built = made.stack.services["notes"], made.stack.services["built"]
    assert {place: one.source for place, one in notes.volumes.items()} == {
        "/data": "${notes-data.path}", "/there": "there", "/x": "x.yml", "/etc/c": "c",
    }  # fmt: skip
    assert {place: one.source for place, one in built.volumes.items()} == {
        "/src": "built/src", "/seen": "${notes-data.path}",
    }  # fmt: skip
    assert "a files store" in made.line("services.notes.volumes[0]").text


def test_volumes_of_another_service() -> None:
    text = """\
services:
  held: {image: busybox, command: "true", volumes: ["kept:/kept", "./conf:/conf:ro"]}
  web: {image: web, volumes_from: [held]}
  seer: {image: seer, volumes_from: ["held:ro", gone, bare]}
  bare: {image: bare, volumes: [/nameless]}
volumes: {kept: }
"""
    made = imported(text, {"conf/a": ""})
    assert set(made.stack.jobs) == {"held"}  # it does nothing, so it is not started again
    web, seer = made.stack.services["web"], made.stack.services["seer"]
    assert {place: (one.source, one.read_only) for place, one in web.volumes.items()} == {
        "/kept": ("${kept.path}", False), "/conf": ("conf", True),
    }  # fmt: skip
    assert all(one.read_only for one in seer.volumes.values())
    kinds = [made.kind(f"services.seer.volumes_from[{n}]") for n in range(3)]
    assert kinds == ["kept", "refused", "refused"]
    assert "a volume of bare has no name" in made.line("services.seer.volumes_from[2]").text


@pytest.mark.parametrize(
    ("said", "start"),
    [
        ("interval: 10s, retries: 6", 60),
        ("interval: 1s, retries: 3", 30),
        ("timeout: 1s", 90),
        ("interval: 5s, retries: 2, start_period: 1m", 70),
    ],
)
def test_a_boot_may_take_as_long_as_until_a_container_is_unhealthy(said: str, start: float) -> None:
    text = "services: {db: {image: mysql, healthcheck: {test: [CMD, ping], %s}}}"
    assert imported(text % said).stack.services["db"].start == start


def test_a_volume_of_a_variable_that_nobody_has_set_is_refused() -> None:
    text = """\
services:
  web: {image: a, volumes: ["${UPLOADS}:/data", /cache, {type: bind, source: "${U}", target: /x}]}
"""
    made = imported(text)
    assert "volumes" not in made.tree["service"]["web"]
    lines = [made.line(f"services.web.volumes[{n}]") for n in (0, 1)]
    assert [line.kind for line in lines] == ["refused", "emulated"]
    assert 'nothing stands before ":/data"' in lines[0].text
    assert made.kind("services.web.volumes[2].target") == "refused"


def test_what_a_database_keeps_in_a_volume_of_no_name_is_kept() -> None:
    made = imported("services: {db: {image: mongo, volumes: [/data/db]}}")
    volumes = made.stack.services["db"].volumes
    assert {place: one.source for place, one in volumes.items()} == {"/data/db": "${db-db.path}"}
    assert made.kind("services.db.volumes[0]") == "kept"


def test_what_a_database_is_told_is_no_store() -> None:
    text = """\
services:
  db: {image: mysql, volumes: ["./first:/docker-entrypoint-initdb.d", "./conf:/etc/mysql/conf.d"]}
"""
    volumes = imported(text).stack.services["db"].volumes
    assert [one.source for one in volumes.values()] == ["first", "conf"]


def test_a_port_of_tls_is_not_the_one_of_http() -> None:
    made = imported("services: {web: {image: a, ports: ['443:443', '80:80']}}")
    assert made.stack.services["web"].port == 80
    assert made.tree["edge"]["listen"] == "*:80"
    line = made.line("services.web.ports[0]")
    assert (line.kind, "the edge speaks TLS itself" in line.text) == ("refused", True)


def test_a_switch_is_no_secret() -> None:
    text = """\
services:
  a: {image: mysql, environment: {MYSQL_ALLOW_EMPTY_PASSWORD: "yes"}}
  b: {image: mysql, environment: {MYSQL_RANDOM_ROOT_PASSWORD: 1}}
"""
    assert imported(text).stack.secrets == ()
