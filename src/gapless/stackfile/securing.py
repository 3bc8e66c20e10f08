"""What is wrong with domains and TLS taken together: the model says the same, without places."""

from __future__ import annotations

from gapless.stackfile.report import Report


def check(report: Report) -> None:
    """Add every fault. The tree may have other faults."""
    tree = report.layered.tree
    edge = tree.get("edge", {})
    domains = tree.get("domains", [])
    if not isinstance(edge, dict) or not isinstance(domains, list):
        return
    tls = edge.get("tls", "auto" if domains else None)
    for at, name in enumerate(domains):
        if name in domains[:at]:
            report.add(("domains", at), f'"{name}" is listed twice')
        if tls == "auto" and isinstance(name, str) and name.startswith("*"):
            report.add(
                ("domains", at),
                f"no certificate for {name} can be had by HTTP: name each host, "
                "or give [edge] tls = { cert, key }",
            )
    if tls == "auto" and not domains:
        report.add(("edge", "tls"), 'needs domains = ["chat.example.com"]')
    if "hsts" in edge and not tls:
        report.add(("edge", "hsts"), 'needs TLS: say domains = ["chat.example.com"], or tls')
    if tls and "listen" in edge and edge["listen"] == edge.get("tls_listen"):
        report.add(("edge", "tls_listen"), "is the same as listen", key=False)
