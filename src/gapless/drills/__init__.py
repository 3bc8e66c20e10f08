"""Proofs: one module a promise. Each disturbs the running stack, measures, judges, puts back.

``spec`` · ``wire`` · ``sockets`` · ``load``  the load generator, a process of its own
``generator``  the drill's end of that process
``figures``    percentiles, bounds, merging: pure
``base``       what a drill is, what it finds, what it returns
``verdict``    rules over measured tables that several drills share: pure
``run``        one drill from subject to verdict, with the state put back whatever happens
``probe_app``  a small service that can misbehave, for faults that the user's code cannot make
"""
