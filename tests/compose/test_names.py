"""What others call a service stays a name of it."""

from __future__ import annotations

from .made import imported

FILE = """\
services:
  task_worker:
    image: worker
    container_name: Shop-Worker
    networks: {back: {aliases: [jobs, web]}, front: }
    volumes: ["jobs:/jobs"]
  web:
    image: web
    container_name: web
    ports: ["80:8000"]
    links: ["task_worker:queue", "db:postgres"]
    environment:
      WORKER: task_worker:9000
      SELF: http://web:8000/x
      DB: postgresql://shop:hidden@shop_db/shop
  db:
    image: postgres:16
    container_name: shop_db
    environment: {POSTGRES_USER: shop, POSTGRES_PASSWORD: hidden}
  api_v1:
    image: api
    expose: [9000]
    environment: {OTHER: "http://api_v1:9000/a"}
networks: {back: , front: }
volumes: {jobs: }
"""


def test_names_of_a_service_are_aliases() -> None:
    made = imported(FILE)
    services = made.stack.services
    assert services["task-worker"].aliases == ("task_worker", "Shop-Worker", "jobs", "queue")
    assert services["web"].aliases == ()
    assert services["api-v1"].aliases == ("api_v1",)
    name = made.line("services.task_worker.container_name")
    assert (name.kind, name.text) == ("kept", "others find it as Shop-Worker")
    assert made.kind("services.task_worker.networks.back.aliases[0]") == "kept"
    assert made.kind("services.web.container_name") == "kept"


def test_a_name_that_another_one_has_is_refused() -> None:
    line = imported(FILE).line("services.task_worker.networks.back.aliases[1]")
    assert (line.kind, line.text) == ("refused", '"web" is another one here')
    made = imported(FILE.replace("Shop-Worker", "no name"))
    assert made.kind("services.task_worker.container_name") == "refused"


def test_addresses_are_known_by_each_name() -> None:
    made = imported(FILE)
    assert set(made.stack.data) == {"db", "jobs"}  # its user speaks of its container
    assert made.stack.services["web"].env["DB"] == "${db.url}"
    assert made.stack.services["web"].env["SELF"] == "${web.url}/x"
    assert made.stack.services["api-v1"].env["OTHER"] == "${api-v1.url}/a"


def test_a_store_that_nobody_is_told_of_stays_where_it_is_looked_for() -> None:
    text = """\
services:
  web: {image: web, ports: ["80:8000"], environment: {POSTGRES_DB: shop}}
  db: {image: "postgres:16", environment: {POSTGRES_PASSWORD: hidden}}
"""
    made = imported(text)
    assert set(made.stack.services) == {"web", "db"}
    assert "db is postgres, and stays an image: nobody is told" in " ".join(made.result.warned)
    text = text.replace('"postgres:16"', '"postgres:16", x-gapless: store')
    assert set(imported(text).stack.data) == {"db"}
    text = text.replace('"postgres:16"', '"mysql:8"')
    assert imported(text).kind("services.db.x-gapless") == "refused"


def test_who_looks_into_a_store_by_hand_is_in_its_network() -> None:
    text = """\
services:
  web: {image: web, ports: ["80:80"], environment: {DB: "postgresql://a:hidden@db/a"}}
  db: {image: "postgres:16", environment: {POSTGRES_USER: a, POSTGRES_PASSWORD: hidden}}
  adminer: {image: adminer, ports: ["8080:8080"], depends_on: [db]}
  redis-commander: {image: rediscommander/redis-commander}
"""
    made = imported(text)
    assert made.stack.services["adminer"].env == {"DB_URL": "${db.url}"}
    assert made.stack.services["redis-commander"].env == {}
    assert "gapless run adminer -- printenv DB_URL" in " ".join(made.result.warned)


def test_a_page_about_others_is_not_what_people_find_first() -> None:
    text = """\
services:
  rabbit: {image: "rabbitmq:3-management", ports: ["5672:5672", "15672:15672"]}
  adminer: {image: adminer, ports: ["8080:8080"]}
  web: {image: web, ports: ["3000:3000"]}
"""
    services = imported(text).stack.services
    hosts = {name: one.route.host for name, one in services.items() if one.route is not None}
    assert hosts == {"rabbit": "rabbit.localhost", "adminer": "adminer.localhost", "web": None}
