"""In which order a rollout switches services."""

from __future__ import annotations

from gapless import stackfile
from gapless.engine import rollouts
from gapless.model.desired import Desired, Generation

FILE = """\
gapless = 1
name = "shop"
[service.store]
image = "mongo"
singleton = true
[service.worker]
image = "worker"
env = { API = "${api.url}" }
[service.web]
image = "web"
port = 80
route = "/"
[service.api]
image = "api"
port = 80
route = false
"""


def test_the_first_one_is_in_the_order_of_the_file_later_ones_by_whom_requests_reach() -> None:
    stack = stackfile.parse(FILE).stack
    first = rollouts.deploy(Desired(), 1, stack, (), kind="up", park=True)
    assert first.order == ("store", "api", "worker", "web")
    serving = Desired(vector={name: Generation(1) for name in stack.services})
    later = rollouts.deploy(serving, 2, stack, (), kind="deploy", park=True)
    assert later.order == ("web", "api", "worker", "store")
