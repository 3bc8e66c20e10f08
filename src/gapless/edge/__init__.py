"""The load balancer.

``base``     what the engine asks of one
``config``   the edge's configuration as a value: pure
``judging``  how a server is judged, which requests may go to another one: pure
``breaker``  bad answers that come slowly: pure
``refusals`` what the edge says when it refuses a request: pure
``hostile``  requests that no honest client sends: pure
``limits``   how much of the edge one client gets: pure
``queueing`` how much one replica gets at a time, and who waits: pure
``bodies``   how large a body may be, and how long it may take: pure
``render``   the configuration as HAProxy text: pure
``front``    what several stacks' edges stand behind: its text and its table: pure
``shared``   an edge that stands behind it: pure
``hold``     requests that wait (``hold.lua``), ``accesslog`` a line for each: pure
``words``    foreign values as words that HAProxy cannot misread: pure
``wire``     HAProxy's runtime API as commands and parsed answers: pure
``sums``     several workers' answers to one: pure
``talk``     one exchange over a socket
``files``    what lies on disk, checked before it counts; ports
``lowports`` ports below 1024
``binary``   finding an HAProxy that is able, and having it at hand
``keeper``   its listening sockets, held for the one after it
``rotation`` who is in rotation: entering, leaving, being forgotten
``doors``    the client of the front
``haproxy``  the client: does it, and looks
"""
