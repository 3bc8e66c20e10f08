"""The smallest application: one answer, on the socket that it is told. Nothing else is measured."""

import os
import socket
import sys

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"

with socket.socket(socket.AF_UNIX) as door:
    if os.path.exists(sys.argv[1]):  # noqa: PTH110  # pathlib would cost a boot of its own
        os.unlink(sys.argv[1])  # noqa: PTH108  # as above
    door.bind(sys.argv[1])
    door.listen(64)
    while True:
        caller, _ = door.accept()
        with caller:
            if caller.recv(4096):
                caller.sendall(ANSWER)
