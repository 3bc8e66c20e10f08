"""Compose files in and out: ``gapless import``, ``gapless render compose``. No I/O, no clock.

``tree``       YAML text to nodes that know the line they stood on, anchors and merges resolved
``variables``  ``${X:-default}`` in values; ``dotenv`` the files of variables
``forms``      short forms to long ones; ``merge`` several files; ``project`` all of it in order
``ledger``     what became of each key: kept, emulated, refused
``fates``      the keys of a service that have no equivalent
``services``   services and jobs; ``ports``, ``stores``, ``told``, ``proxies`` what they need
``hidden``     values of secrets wherever else they stand
``incoming``   a project as a stack file
"""
