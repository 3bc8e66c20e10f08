"""A chat room service: FastAPI and Socket.IO over Postgres and Redis, Celery beside it.

``settings``  what the environment says
``store``     rooms and messages in Postgres
``presence``  who is in which room, over all replicas, in Redis
``sockets``   open WebSockets of this replica, and how they are told to go
``live``      the Socket.IO events
``api``       the HTTP routes
``health``    alive, ready, and what is missing
``main``      all of it put together: ``chat.main:app``
``tasks``     Celery: what workers do, and when beat asks for it
``smoke``     run after a release: does the public service answer?
"""
