"""Stack files that tests start from."""

from __future__ import annotations

from gapless import stackfile
from gapless.errors import InvalidStack

SMALL = """\
gapless = 1
name = "shop"

[service.web]
run = "python app.py ${socket}"
"""

FULL = """\
gapless = 1
name    = "chat"
secrets = ["SESSION_KEY", "DB_URL"]
source  = "."
include = ["web/dist/**"]
setup   = ["uv sync --frozen"]
keep    = 3
x-owner = { team = "chat", pager = ["one", "two"] }

[env]
DATABASE_URL = "${db.pool_url}"
REDIS_URL    = "${cache.url}"
KEY          = "${secret.SESSION_KEY|url}"
LEVEL        = "${env.LOG_LEVEL:-info}"
PRICE        = "$${not.this}"

[service.web]
run      = "uvicorn chat.main:app --uds ${socket} --timeout-keep-alive 3600"
replicas = 3
route    = { host = "chat.example.com", path = "/" }
sticky   = "cookie"
ready    = { path = "/health/ready", every = "500ms" }
drain    = "60s"
surge    = "all"
reserve  = { cpu = 0.5, memory = "512M" }

[service.api]
run   = ["api", "--port", "${port}", "--name", "${replica}@${release}"]
route = "/api"
ready = "/ok"

[service.inside]
run   = "inside --uds ${socket}"
route = false
env   = { WEB = "${web.url}" }

[service.worker]
run      = "celery -A chat.tasks worker"
replicas = "cpus"
drain    = "5m"
env      = { INSIDE = "${inside.url}", LEFT = "${legacy.host}:${legacy.port}" }
ready    = { command = "python -m chat.ping", timeout = "5s" }

[service.beat]
run       = ["celery", "-A", "chat.tasks", "beat", "-s", "${shared.path}/beat"]
singleton = true

[job.migrate]
run  = "alembic upgrade head"
when = "release"

[data.db]
type     = "postgres"
version  = 18
settings = { max_connections = 200, "auto_explain.log" = "on" }

[data.cache]
type = "redis"

[data.shared]
type = "files"

[data.legacy]
type = "postgres"
url  = "${secret.DB_URL}"

[edge]
listen = "127.0.0.1:8090"
allow  = ["10.0.0.0/8"]

[drill]
get  = ["/", "/api/items?all=1"]
slow = "/slow"
host = "chat.example.com"

[for.staging]
keep = 2
service.web.replicas = 1
unset = ["service.web.sticky", "data.db.settings.\\"auto_explain.log\\""]

[for.staging.env]
LEVEL = "debug"

[for.production.edge]
listen = "*:80"
"""


def said(text: str, overlay: str | None = None) -> list[str]:
    """What is wrong with a text, a line each, without the quoted lines; [] when it is valid."""
    try:
        stackfile.parse(text, overlay=overlay)
    except InvalidStack as error:
        return [
            f"{problem.line}: {problem.message}" if problem.line else problem.message
            for problem in error.problems
        ]
    return []
