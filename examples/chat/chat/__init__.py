"""A chat room service: FastAPI and Socket.IO over Postgres and Redis, Celery beside it.

``settings``  what the environment says
``store``     rooms and messages in Postgres
``live``      the Socket.IO events
``tally``     how many are in each room: written down by one replica, the leader
``api``       the HTTP routes
``main``      all of it put together, with health pages, gentle goodbyes, presence and metrics of
              ``gapless.app``: ``chat.main:app``
``tasks``     Celery: what workers do, and when beat asks for it
``smoke``     run after a release: does the public service answer?
"""

__version__ = "1.0"
