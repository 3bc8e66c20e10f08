"""What nginx adds to answers, takes from them, and how it makes them smaller. Pure."""

from __future__ import annotations

from gapless.edge import answers as edge_answers
from gapless.edge.answers import Answers
from gapless.targets import nginx_words as words


def maps(stack: str, answers: Answers) -> list[str]:
    """For ``http``: each header's value, "" where the service sets that header itself."""
    lines = []
    for number, (name, value) in enumerate(answers.headers, 1):
        theirs = f"$upstream_http_{name.lower().replace('-', '_')}"
        lines += [
            f"map {theirs} {_variable(stack, number)} {{",
            f'    "" {words.text(value, stack)};',
            '    default "";',
            "}",
        ]
    return lines


def headers(stack: str, answers: Answers) -> list[str]:
    """For each place that has ``add_header`` of its own, as it then inherits none."""
    return [
        f"add_header {words.header(name)} {_variable(stack, number)} always;"
        for number, (name, _) in enumerate(answers.headers, 1)
    ]


def server(answers: Answers) -> list[str]:
    """For a server."""
    lines = [f"proxy_hide_header {words.header(name)};" for name in answers.removed]
    if not answers.compress:
        return lines
    types = [kind for kind in edge_answers.COMPRESSED if kind != "text/html"]  # always one
    return [
        *lines,
        "gzip on;",
        "gzip_vary on;",
        "gzip_proxied any;",
        f"gzip_types {' '.join(types)};",
    ]


def _variable(stack: str, number: int) -> str:
    return f"${words.name(stack, 'header', str(number))}"
