"""What workers do, and when beat asks for it.

Delivery is at least once: a task is acknowledged after it ran, and given to another worker when
its own one dies. So tasks may run twice and must not mind.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import celery
import socketio

from chat.settings import Settings
from chat.store import Store
from gapless.app import workers

settings = Settings.of()

app = celery.Celery("chat", broker=settings.redis_url)
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    # A stopping worker finishes what it has within this time and hands the rest back.
    worker_soft_shutdown_timeout=20.0,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": 3600},
    task_default_queue="default",
    timezone="UTC",
    beat_schedule={"tidy": {"task": "chat.tasks.tidy", "schedule": 60.0}},
)
workers.leave_gently(app)


@app.task
def tidy() -> None:
    """Forget old messages."""
    _with_store(lambda store: store.tidy())


@app.task
def stats(room: str) -> None:
    """The answer to ``/stats``: a message to the room, from a worker, shown by every replica."""
    messages, authors = _with_store(lambda store: store.count(room))
    text = f"{messages} messages by {authors} people, counted by {settings.server_id}"
    message = _with_store(lambda store: store.add(room, "bot", text, settings.server_id))
    socketio.RedisManager(settings.redis_url, write_only=True).emit(
        "message", message.public(), room=room
    )


@app.task
def nap(seconds: float) -> None:
    """Keep one slot of a worker busy."""
    time.sleep(seconds)


def _with_store(work: Callable[[Store], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        store = Store(settings.database_url, 1)
        await store.open()
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())
