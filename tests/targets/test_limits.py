"""Limits of a rendered nginx: what one client gets, and what others do."""

from __future__ import annotations

from collections import Counter
from typing import Any

import aiohttp
import pytest

from gapless.drills import ports
from gapless.edge.limits import Limits, Rate
from gapless.errors import UsageError
from gapless.model.stack import Stack
from gapless.targets import ask, balance, nginx, nginx_limits
from tests.real.standing import open_folder
from tests.targets import programs
from tests.targets.echo import Echo

TABLE: dict[str, Any] = {
    "gapless": 1,
    "name": "demo",
    "service": {"web": {"run": "a ${socket}", "body": "10K"}},
    "edge": {
        # So slow that nothing comes back while the test runs, however slow that is.
        "rate_limit": [
            {"rate": "1/m", "burst": 5, "path": "/api", "allow": ["127.0.0.3"]},
            {"rate": "1/m", "burst": 3, "path": "/key", "method": "POST", "key": "header:X-Key"},
        ],
        "connections": 50,
    },
}


async def _count(
    url: str, times: int, source: str = "127.0.0.1", method: str = "GET", **more: Any
) -> Counter[int]:
    connector = aiohttp.TCPConnector(local_addr=(source, 0))
    found: Counter[int] = Counter()
    async with aiohttp.ClientSession(connector=connector) as client:
        for _ in range(times):
            async with client.request(method, url, **more) as answer:
                found[answer.status] += 1
                assert ("Retry-After" in answer.headers) == (answer.status == 429)
    return found


async def test_each_client_gets_what_is_allowed() -> None:
    with open_folder() as folder:
        app = await Echo("web1", f"{folder}/web1.sock").start()
        port = ports.reserve()
        asked = ask.Ask(
            at=str(folder),
            upstreams=ask.upstreams([f"web=unix:{app.path}"]),
            listen=f"127.0.0.1:{port}",
        )
        wanted = balance.of_stack(Stack.model_validate(TABLE), asked)
        programs.write(folder, nginx.files(wanted))
        assert programs.check("nginx", folder) == ""
        url = f"http://127.0.0.1:{port}"
        try:
            with programs.running("nginx", folder, port):
                assert await _count(f"{url}/api/x", 9) == {200: 5, 429: 4}
                assert await _count(f"{url}/%61pi", 1) == {429: 1}
                assert await _count(f"{url}/apix", 9) == {200: 9}
                assert await _count(f"{url}/api/x", 9, "127.0.0.2") == {200: 5, 429: 4}
                assert await _count(f"{url}/api/x", 9, "127.0.0.3") == {200: 9}
                for key in ("a", "b"):
                    found = await _count(f"{url}/key", 5, method="POST", headers={"X-Key": key})
                    assert found == {200: 3, 429: 2}
                assert await _count(f"{url}/key", 5) == {200: 5}
                for size, status in ((10_240, 200), (10_241, 413)):
                    found = await _count(f"{url}/", 1, method="POST", data=b"x" * size)
                    assert found == {status: 1}
        finally:
            await app.stop()


@pytest.mark.parametrize(
    ("rate", "said"),
    [
        (Rate(100, 1.0), "rate=100r/s;"),
        (Rate(1, 2.0), "rate=30r/m;"),
        (Rate(5000, 3600.0), "rate=83r/m;"),
    ],
)
def test_rates_as_nginx_says_them(rate: Rate, said: str) -> None:
    assert any(line.endswith(said) for line in nginx_limits.maps("demo", Limits((rate,))))


@pytest.mark.parametrize(
    "rate", [Rate(1, 100.0), Rate(1, 1.0, key="cookie:a-b"), Rate(1, 1.0, path='/"x')]
)
def test_what_nginx_cannot_say_is_refused(rate: Rate) -> None:
    with pytest.raises(UsageError):
        nginx_limits.maps("demo", Limits((rate,)))
