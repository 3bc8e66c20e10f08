"""Tasks of Celery that write down what happens to them: evidence for drills, and nothing else.

One file, run by any Python that has celery and redis; drills copy it into a scratch stack:

    celery -A probe_tasks worker -n NAME@%h -Q probe    a worker
    python probe_tasks.py send RUN meet COUNT SECONDS   tasks that wait for each other
    python probe_tasks.py send RUN work COUNT SECONDS   tasks that take so long each
    python probe_tasks.py send RUN later COUNT SECONDS  tasks that are not due before that

``PROBE_URL`` is the store, ``PROBE_VISIBILITY`` the seconds after which a task that its worker
did not acknowledge is given to another. Each execution appends to the list ``probe:RUN`` when it
starts and when it ends, so the order of the entries is the order in which things happened:

    {"task": "RUN-7", "what": "start", "worker": "worker.1@r1", "at": 1700000000.1, "again": false}

The ids of tasks are RUN-0 … RUN-(COUNT-1), so whoever knows the count knows what may be missing.
Delivery is at least once: acknowledged after the work, and one task more than hands at most.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import celery  # type: ignore[import-not-found,unused-ignore]
import redis

try:
    from gapless.app import workers
except ImportError:  # without it a worker that leaves may run a task twice
    workers = None  # type: ignore[assignment]

URL = os.environ.get("PROBE_URL", "redis://127.0.0.1:6379/0")
QUEUE = "probe"
POLL = 0.05
NAMES = ("meet", "work", "later")

app: Any = celery.Celery("probe_tasks", broker=URL)
app.conf.update(
    task_default_queue=QUEUE,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    broker_transport_options={
        "visibility_timeout": float(os.environ.get("PROBE_VISIBILITY", "3600")),
        # Looked for every second, where a real one need not hurry.
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    },
)
if workers is not None:
    workers.leave_gently(app)


class Diary:
    """Where one execution writes down that it happens."""

    def __init__(self, request: Any, run: str) -> None:
        self.store = redis.Redis.from_url(URL)
        self._list = f"probe:{run}"
        self._request = request

    def write(self, what: str) -> None:
        """``start`` or ``end`` of this execution."""
        entry = {
            "task": self._request.id,
            "what": what,
            "worker": os.environ.get("SERVER_ID", self._request.hostname),
            "at": time.time(),
            "again": bool((self._request.delivery_info or {}).get("redelivered")),
        }
        self.store.rpush(self._list, json.dumps(entry))

    def close(self) -> None:
        """Hang up: a worker's process runs many tasks."""
        self.store.close()


def _work(self: Any, run: str, seconds: float) -> None:
    """Take so long."""
    diary = Diary(self.request, run)
    diary.write("start")
    time.sleep(seconds)
    diary.write("end")
    diary.close()


def _meet(self: Any, run: str, wanted: int, patience: float) -> None:
    """Wait until ``wanted`` are in at once and ``probe:RUN:gate`` is set; or lose patience.

    Who leaves early leaves its place: the others are fewer by one.
    """
    diary = Diary(self.request, run)
    store = diary.store
    inside, full, gate = f"probe:{run}:in", f"probe:{run}:full", f"probe:{run}:gate"
    diary.write("start")
    deadline = time.monotonic() + patience
    here = int(store.incr(inside))
    while time.monotonic() < deadline:
        if here >= wanted:
            store.set(full, here)
        if store.exists(full, gate) == 2:
            break
        time.sleep(POLL)
        here = int(store.get(inside) or 0)
    store.decr(inside)
    diary.write("end")
    diary.close()


work = app.task(bind=True, name="work")(_work)
meet = app.task(bind=True, name="meet")(_meet)


def send(run: str, name: str, count: int, seconds: float) -> None:
    """Queue ``count`` tasks; all of them are in the queue when this returns."""
    task, first = (meet, [count]) if name == "meet" else (work, [])
    put_off = {"countdown": seconds} if name == "later" else {}
    with app.connection_for_write() as wire:
        for n in range(count):
            id = f"{run}-{n}"
            task.apply_async((run, *first, seconds), task_id=id, connection=wire, **put_off)


def main() -> int:
    words = sys.argv[1:]
    if len(words) != 5 or words[0] != "send" or words[2] not in NAMES:
        sys.stderr.write("usage: probe_tasks.py send RUN meet|work|later COUNT SECONDS\n")
        return 2
    _, run, name, count, seconds = words
    send(run, name, int(count), float(seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
