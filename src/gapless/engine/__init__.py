"""The loop, and all that it needs of the machine. Each module's first line says what it holds.

The way of one round: ``observe`` one look · ``situation`` what the decision may know ·
``execute`` one step · ``controller`` the loop of them · ``durable`` what must survive ·
``journal`` what happened. Beside it: ``api`` and ``operations`` what is asked of us, ``site`` the
parts put together, ``prober``, ``stores`` and ``vitals`` who look in the background, ``releases``
and ``certificates`` with rooms of their own, ``offline`` for when there is no loop.
"""
