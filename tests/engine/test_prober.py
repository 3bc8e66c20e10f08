"""What is kept of an answer as the reason why a replica is not ready; commands elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from tests.runtimes.process_bench import until

from gapless.drills import ports
from gapless.engine import prober
from gapless.model.process import Address
from gapless.model.service import Probe


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"status": "unready", "reason": "db: connection refused"}', "db: connection refused"),
        (b'{"reason": "two\\n  lines"}', "two lines"),
        (b'{"reason": 1}', '{"reason": 1}'),
        (b'["reason"]', '["reason"]'),
        (b'{"reason": "cut', '{"reason": "cut'),
        (b" db: connection refused\n", "db: connection refused"),
        (b"x" * 1000, "x" * 200),
        (b"[" * 4096, "[" * 200),
        (b"\xff", "\ufffd"),
        (b"", ""),
    ],
)
def test_the_reason_that_an_answer_gives(body: bytes, reason: str) -> None:
    assert prober.reason(body) == reason


@pytest.mark.parametrize(
    ("answer", "ready", "said"),
    [
        ((0, "fine"), True, "look: exit 0, 'fine'"),
        ((3, "no db"), False, "look: exit 3, 'no db'"),
        ((None, "no end within 2 s"), False, "look: no end within 2 s"),
    ],
)
async def test_a_command_is_asked_where_the_replica_is(
    answer: tuple[int | None, str], ready: bool, said: str
) -> None:
    asked: list[tuple[str, Sequence[str], float]] = []

    async def ask(id: str, argv: Sequence[str], limit: float) -> tuple[int | None, str]:
        asked.append((id, argv, limit))
        return answer

    ours = prober.Prober(lambda: None)
    probe = Probe.model_validate({"command": ["look"], "timeout": "2s", "after": 1})
    ours.watch(prober.Subject("web.1@r1", probe, None, 0.0, command=("look", "x"), ask=ask))
    await until(lambda: bool(ours.health("web.1@r1").last))
    known = ours.health("web.1@r1")
    await ours.close()
    assert (known.ready, known.last) == (ready, said)
    assert asked[0] == ("web.1@r1", ("look", "x"), 2)


async def test_a_port_where_nobody_listens_is_named() -> None:
    ours = prober.Prober(lambda: None)
    port = ports.reserve()
    ours.watch(prober.Subject("web.1@r1", None, Address(host="127.0.0.1", port=port), 0.0))
    await until(lambda: bool(ours.health("web.1@r1").last))
    known = ours.health("web.1@r1")
    await ours.close()
    assert (known.ready, known.last) == (
        False,
        f"connect to 127.0.0.1:{port}: connection refused",
    )
