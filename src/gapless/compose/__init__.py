"""Compose files in and out: ``gapless import``, ``gapless render compose``. No I/O, no clock.

Each module's first line says what it holds. The way in: ``tree`` (YAML with its lines),
``project`` (several files as one), ``incoming`` (a stack file of it), ``ledger`` (what became of
each key). The way out: ``outgoing`` and its ``losses``.
"""
