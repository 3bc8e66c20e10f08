"""The server of files in a whole stack: killed, stopped, adopted; and releases that go."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.drills import conftest
from tests.drills.stand import wait_for

from gapless.drills import asked, base, scratch

FILES = replace(conftest.QUICK, replicas=1, watch="200ms", drain="1s", static=True, sticky=False)


def test_it_is_replaced_adopted_and_forgets_what_is_removed() -> None:
    with (
        conftest.engine(None) as home,
        scratch.stack("probes", home / "source", print, FILES, base.Options()) as probes,
    ):
        client = asked.Client(probes.settle().edge_url, None)

        def serves() -> bool:
            return client.ask("/assets/").status == 200

        for blow in (signal.SIGKILL, signal.SIGSTOP):
            before = _server(probes)["pid"]
            os.kill(before, blow)
            wait_for(f"another after {blow.name}", _another(probes, before), 60)
            wait_for("it serves", serves, 60)
        before = _server(probes)["pid"]
        os.kill(int(probes.client.get("/v1/ping")["pid"]), signal.SIGKILL)
        assert serves()
        probes.up()
        assert _server(probes)["pid"] == before
        _removed(probes, client)


def _removed(probes: scratch.Scratch, client: asked.Client) -> None:
    """Two releases are kept: the third makes the first one go, from nginx and from the disk."""
    file = probes.target.file
    file.write_text(file.read_text().replace('name = "', 'keep = 2\nname = "', 1))
    needed = [scratch.publish(file.parent, 1)]
    for version in (2, 3):
        needed.append(scratch.publish(file.parent, version))
        probes.must("/v1/deploy", services=[], wait=True)
    assert [client.ask(f"{path}?now").status for path in needed] == [404, 200, 200]
    kept = {release["release"] for release in probes.client.get("/v1/releases")}
    text = (probes.paths.state / "static" / "nginx.conf").read_text()
    assert {name for name in ("r1", "r2", "r3") if f"/{name}/tree/" in text} == kept == {"r2", "r3"}


def _server(probes: scratch.Scratch) -> dict[str, Any]:
    found: dict[str, Any] = probes.client.get("/v1/status")["static"]
    return found


def _another(probes: scratch.Scratch, before: int) -> Callable[[], bool]:
    def seen() -> bool:
        now = _server(probes)
        return bool(now["state"] == "running" and now["pid"] != before)

    return seen
