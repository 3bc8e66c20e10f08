"""What runtimes share that start programs on this very machine.

``accounts`` unprivileged uids · ``addresses`` sockets and ports · ``files`` names, directories and
durable files · ``logs`` output files and their rotation · ``proc`` what /proc says
"""
