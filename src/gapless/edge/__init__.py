"""The load balancer. Each module's first line says what it holds, and whether it is pure.

``base`` is what the engine asks of one. ``config`` is the edge's configuration as a value,
``render`` the same as HAProxy's text, in which most pure modules have a part; ``wire`` is
HAProxy's runtime API as commands and parsed answers. ``haproxy`` does it and looks, with
``rotation`` for who is in. ``staticconf`` and ``staticserver`` are nginx, who serves files behind
it; ``front`` and ``doors`` what several stacks stand behind.
"""
