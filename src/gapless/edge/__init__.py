"""The load balancer.

``config``   the edge's configuration as a value, and as HAProxy text: pure
``wire``     HAProxy's runtime API as commands and parsed answers: pure
``haproxy``  the client: does it, and looks
"""
