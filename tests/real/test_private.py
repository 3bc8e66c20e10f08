"""Private pages of a whole stack: which passwords it takes, and another one while it serves."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from tests.edge import stand
from tests.real.standing import Load, Standing

from gapless import errors

FIRST, SECOND = "first-password", "second-password"


@pytest.fixture
def stack(stack: Standing) -> Standing:
    stack.write(replicas=1, more='private = { "/ready" = "OPS" }')
    return stack


async def status(stack: Standing, password: str | None) -> int:
    word = base64.b64encode(f"admin:{password}".encode()).decode()
    headers = {} if password is None else {"Authorization": f"Basic {word}"}
    return (await stack.get("/ready", headers=headers))[0]


async def test_a_password_and_another_one_under_load(stack: Standing) -> None:
    secrets = stack.controller.site.secrets
    with pytest.raises(errors.UsageError, match="without a value: OPS"):
        await stack.do("up")
    secrets.set("OPS", "too-short")
    with pytest.raises(errors.UsageError, match="at least 12 characters, this one has 9"):
        await stack.do("up")
    secrets.set("OPS", FIRST)
    await stack.do("up")
    assert [await status(stack, one) for one in (None, SECOND)] == [401, 401]
    assert await status(stack, FIRST) == 200
    pid = stack.pids()

    async with Load(stack.url, clients=2) as load:
        secrets.set("OPS", SECOND)
        stack.controller.wake()

        async def taken() -> bool:
            return await status(stack, FIRST) == 401

        await stand.until(taken, "the first password is forgotten")
        assert await status(stack, SECOND) == 200
    assert load.failed == {}
    assert stack.pids() == pid
    for path in Path(stack.controller.site.paths.state).rglob("*"):
        if path.is_file() and path.stat().st_size < 1_000_000 and "secrets" not in path.parts:
            assert SECOND.encode() not in path.read_bytes(), path
