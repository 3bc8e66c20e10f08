"""Programs as plain processes of this machine; they outlive the controller and are adopted.

``runtime`` the runtime itself · ``spawn`` one start · ``launcher`` what runs between fork and exec
· ``records`` who was started · ``proc`` what /proc says · ``accounts`` unprivileged uids
· ``addresses`` sockets and ports · ``logs`` output files and their rotation
"""

from gapless.runtimes.process.runtime import ProcessRuntime

__all__ = ["ProcessRuntime"]
