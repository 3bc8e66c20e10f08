"""How many requests a replica gets at a time, and who waits for how long. Pure.

A WebSocket counts as long as it is open. Who waits is served in the order of arrival; a client
that has to stay with one replica waits for that one.
"""

from __future__ import annotations

from dataclasses import dataclass

from gapless.edge import refusals, words
from gapless.model.service import Service


@dataclass(frozen=True, slots=True)
class Queue:
    """``concurrency``: of one replica, None: any number. ``length``: so many wait for all
    replicas together, ``seconds`` long at most."""

    concurrency: int | None = None
    seconds: float = 5.0
    length: int = 1_000


NONE = Queue()


def of_service(service: Service) -> Queue:
    """What the stack file asks for."""
    return Queue(service.concurrency, service.queue, service.queue_length)


def for_backend(queue: Queue, name: str) -> list[str]:
    """Lines of a backend; ``name`` is its own. Without a limit only the defaults hold."""
    if queue.concurrency is None:
        return []
    busy = "Too busy, try again in a moment"
    soon = {"Retry-After": str(refusals.SOON)}
    return [
        f"timeout queue {words.milliseconds(queue.seconds)}",
        *refusals.refuse(503, busy, f"{{ queue({name}) ge {queue.length} }}", soon),
        # Who waited in vain; or nobody is there to wait for.
        "http-error status 503 content-type 'text/plain' "
        f"hdr Retry-After '{refusals.SOON}' hdr Cache-Control 'no-store' string '{busy}'",
    ]


def at_most(queue: Queue, requests: int) -> int:
    """The lower one of a passing limit and the lasting one; ``requests`` 0: only the lasting one.

    0 is any number, as HAProxy has it.
    """
    lasting = queue.concurrency or 0
    return min(requests, lasting) if requests and lasting else requests or lasting
