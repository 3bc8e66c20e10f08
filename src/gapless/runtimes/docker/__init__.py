"""Programs as containers of a Docker engine (or Podman's compatible one); adopted by label.

``runtime`` the runtime itself · ``spec`` a program as the engine is told of it · ``seen`` what the
engine says, as the runtime tells it · ``follow`` output into the log files · ``inside`` commands in
containers · ``holder`` of the machine's address in a network · ``client`` the wire
"""

from __future__ import annotations

from gapless.runtimes.docker.runtime import DockerRuntime

__all__ = ["DockerRuntime"]
