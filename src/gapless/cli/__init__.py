"""Arguments to the controller, answers to tables, JSON and exit codes. One module a noun.

``main``       the group: global options, lazy commands, the one place where errors become text
``session``    what every command gets: file, overlay, places, client
``out``        where things are printed, and how: terminal, plain, JSON
``render``     answers as tables and lines
``follow``     a long operation as it happens
``lifecycle``  up, down, wait · ``change`` deploy and its kin · ``look`` ps and its kin
``logs`` · ``inside`` run, exec, connect

Decisions are not made here: a command says what it wants, the plan says what that means.
Modules that a quick reading command needs import no pydantic, rich or aiohttp.
"""
