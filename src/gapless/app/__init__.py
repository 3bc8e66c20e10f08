"""For your application: health pages, a gentle goodbye, a leader, presence, metrics.

Needs nothing but the standard library and whatever clients you hand it, and nothing of the rest of
gapless: what runs the application and what runs inside it share no code.

``health``          /health, /health/live, /health/ready, /health/startup, for ASGI and WSGI
``checks``          asking dependencies: Redis, Postgres, Django, URLs, Celery, anything callable
``notice``          being told to leave: the file named by GAPLESS_NOTICE, and TERM
``drain``           open WebSockets and Socket.IO clients are asked to come back, a few at a time
``lease``           one leader among many replicas, whose writes are checked
``lease_postgres``  … kept in Postgres: a stale leader's write fails
``lease_redis``     … kept in Redis: good advice, no proof
``presence``        who is here, over all replicas, in Redis
``workers``         workers of Celery leave without running anything twice
``metrics``         /metrics for Prometheus
"""
