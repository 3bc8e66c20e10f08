"""What runs, as frozen values: valid by construction, no I/O, no clock.

``units``    durations, sizes, names: the scalar types of the file
``service``  Service, Health, Route, Job
``data``     Data
``stack``    Stack, Edge, DrillTable: the whole
``desired``  what is wanted of the stack right now: release vector, rollout, scale, holds
``process``  Process: one thing to start, whichever runtime starts it

The field descriptions here are the reference of the file: ``gapless docs``, ``gapless schema`` and
the checks of the loader are generated from them. A key that is not here is refused.
"""
