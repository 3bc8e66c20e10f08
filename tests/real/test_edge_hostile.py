"""A thousand hostile requests: none reaches an application but as the edge itself reads it."""

from __future__ import annotations

import asyncio
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import pytest
from tests.edge import stand
from tests.real import hostile

AT_ONCE = 40
PATIENCE = 8.0
FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Recorder(stand.App):
    """An application that writes down each byte that comes, and answers what it understands."""

    heard: list[bytearray] = field(default_factory=list)
    server: asyncio.Server | None = None

    async def start(self) -> Recorder:
        self.server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def stop(self) -> None:
        if self.server is not None:
            await stand.close(self.server)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = bytearray()
        self.heard.append(data)
        answered = 0
        try:
            while more := await reader.read(65_536):
                data += more
                if data.startswith(b"GET /ready "):  # the edge's own check
                    writer.write(FINE)
                    data.clear()
                    continue
                whole = 0
                try:
                    for _ in hostile.requests(bytes(data)):
                        whole += 1
                except (hostile.NotWhole, ValueError):
                    pass
                writer.write(FINE * (whole - answered))
                answered = whole
        except ConnectionError:
            pass
        finally:
            writer.close()


async def send(port: int, data: bytes) -> bytes:
    """Everything that comes back until the edge closes; whoever waits any longer, fails."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        async with asyncio.timeout(PATIENCE):
            writer.write(data)
            writer.write_eof()
            answer = await reader.read(-1)
    except OSError:
        pass
    finally:
        writer.close()
    return answer


@pytest.fixture(scope="module")
def corpus() -> list[hostile.Case]:
    return hostile.cases()


def test_there_are_a_thousand_different_ones(corpus: list[hostile.Case]) -> None:
    assert len({case.data for case in corpus}) == len({case.mark for case in corpus}) == 1_000
    counts = Counter(case.family for case in corpus)
    assert len(counts) == len(hostile.FAMILIES)


async def test_none_of_them_reaches_an_application(corpus: list[hostile.Case]) -> None:
    async with stand.standing() as place:
        recorder = await Recorder("a", str(place.root / "a.sock")).start()
        place.apps.append(recorder)
        await place.enter(recorder)
        before = await place.edge.look()
        port = int(place.config.listen.rpartition(":")[2])
        turns = asyncio.Semaphore(AT_ONCE)
        answers: dict[bytes, bytes] = {}

        async def one(case: hostile.Case) -> None:
            async with turns:
                answers[case.mark] = await send(port, case.data)

        await asyncio.gather(*(one(case) for case in corpus))
        fine = await send(port, b"GET /fine HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        after = await place.edge.look()
    assert fine.startswith(b"HTTP/1.1 200 ")
    assert after.pid == before.pid
    assert after.servers["web.a"].takes_work
    heard = by_mark(recorder)
    faults = [text for case in corpus for text in judge(case, answers[case.mark], heard[case.mark])]
    assert not faults, f"{len(faults)}: {faults[:5]}"


def by_mark(recorder: Recorder) -> dict[bytes, list[bytes]]:
    """The connections on which something of each case was heard."""
    heard: dict[bytes, list[bytes]] = defaultdict(list)
    for data in map(bytes, recorder.heard):
        for mark in set(re.findall(rb"m[0-9]{6}", data)):
            heard[mark].append(data)
    return heard


def judge(case: hostile.Case, answer: bytes, heard: list[bytes]) -> list[str]:
    """What is wrong with what became of it."""
    what = f"{case.family} {case.data[:300]!r}"
    faults = []
    if case.refused:
        if heard:
            faults.append(f"{what}: an application heard {heard!r}")
        if answer and not answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4", b"HTTP/1.1 501")):
            faults.append(f"{what}: answered {answer[:200]!r}")
        return faults
    seen = []
    for data in heard:
        read = 0
        try:
            for target, raw in hostile.requests(data):
                read += len(raw)
                if case.mark in raw:
                    seen.append(target)
                    hidden = [one for one in case.hidden if one in raw.lower()]
                    faults += [f"{what}: {one!r} came through" for one in hidden]
        except (hostile.NotWhole, ValueError) as error:
            if case.mark in data[read:]:
                faults.append(f"{what}: heard as {data[read:]!r} ({error})")
    if len(seen) != answer.count(b"HTTP/1.1 200 "):
        faults.append(f"{what}: {seen} were heard and {answer!r} was answered")
    if b"root:" in answer:
        faults.append(f"{what}: a file leaked")
    return faults


def test_the_planted_fault_is_found(corpus: list[hostile.Case]) -> None:
    """An application that hears what it should not, as behind an edge that passes on all."""
    recorder = Recorder("a", "/nowhere")
    recorder.heard = [bytearray(case.data) for case in corpus]
    heard = by_mark(recorder)
    found = [case for case in corpus if judge(case, FINE, heard[case.mark])]
    missed = Counter(case.family for case in corpus if case not in found)
    assert sum(missed.values()) < 100, missed
