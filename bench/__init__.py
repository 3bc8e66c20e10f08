"""Measurements: ``make bench`` and ``make soak``.

``stack``    the application, the same for everybody (Node needs its own)
``machine``  processes, ports, memory, pid files
``peers``    gapless and the others: how each is started and told to deploy
``compare``  one deploy of each under the same load
``edge``     the edge beside a hand-tuned HAProxy, nginx, Caddy and Traefik (``proxies``)
``own``      gapless alone: latency of ``ps``, the idle controller, a deploy against its bound
``decisions``, ``many_replicas``  how far one controller goes: 1,000 on paper, 200 for real
``soak``     hundreds of handovers under load
"""
