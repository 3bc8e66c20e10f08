"""The front as text and table: what is told apart, what is refused, and what cannot get in."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapless.edge import config, front, render, shared
from gapless.errors import UsageError
from gapless.model.front import Claim, is_host, urls
from tests.edge import stand


def claim(stack: str, *hosts: str, http: str = "*:80", **other: object) -> Claim:
    plain = Claim(stack, hosts, f"/state/{stack}", http=(http,), socket=f"/run/{stack}/front.sock")
    return replace(plain, **other)  # type: ignore[arg-type]


SHOP = claim("shop", "example.com", "www.example.com")
BLOG = claim("blog", "*.blog.example.com", tls=("*:443",), tls_socket="/run/blog/tls.sock")


def text(*claims: Claim, **other: object) -> str:
    plain = front.Config(claims, "/run/_front", maxconn=1000, threads=2)
    return front.text(replace(plain, **other))  # type: ignore[arg-type]


def test_the_table_leads_from_address_and_name_to_the_stack() -> None:
    found = front.table([SHOP, BLOG])
    assert {key: front.owner(value) for key, value in found.items()} == {
        "http-any:80/example.com": "shop",
        "http-any:80/www.example.com": "shop",
        "http-any:80/*.blog.example.com": "blog",
        "tls-any:443/*.blog.example.com": "blog",
    }
    assert front.ours(found, "shop") == front.table([SHOP])
    assert front.owners(found) == {"shop", "blog"}


def test_the_text_listens_for_everybody_and_drops_its_rights() -> None:
    found = text(SHOP, BLOG, uid=70_001, ipv6=True)
    assert found.count("\nfrontend ") == 2
    assert "bind '*:80'\n" in found
    assert "bind ':::80' v6only" in found
    assert "uid 70001" in found
    assert f"description 'gapless _front {front.digest([SHOP, BLOG])}'" in found
    assert "uid " not in text(SHOP).replace("unless", "")
    # Nobody is a choice where somebody else is meant.
    servers = [line for line in found.splitlines() if line.strip().startswith("server ")]
    assert len(servers) == 3
    assert all("'weight' '0'" in line and "'send-proxy-v2'" in line for line in servers)


def test_one_name_is_of_one_stack_on_one_address() -> None:
    assert front.conflict(SHOP, [BLOG]) == ""
    assert front.conflict(SHOP, [SHOP]) == ""
    twin = claim("twin", "example.com")
    assert front.conflict(twin, [BLOG, SHOP]) == "shop has example.com on *:80"
    assert front.conflict(claim("twin", "example.com", http="*:81"), [SHOP]) == ""
    # A name below another one's wildcard may be another stack's: the nearer one is taken.
    assert front.conflict(claim("twin", "a.blog.example.com"), [BLOG]) == ""
    assert "for TLS" in front.conflict(claim("twin", "x.test", http="*:443"), [BLOG])


def test_only_other_addresses_or_an_older_text_are_a_reload() -> None:
    now = front.digest([SHOP])
    assert front.current(now, front.digest([SHOP, claim("third", "third.test")]))
    assert not front.current(now, front.digest([SHOP, BLOG]))
    number, _, rest = now.partition(".")
    assert not front.current(f"{int(number) - 1}.{rest}", now)
    assert front.current(f"{int(number) + 1}.{rest}", now)


def test_a_moved_socket_is_another_server() -> None:
    moved = replace(SHOP, socket="/run/other/front.sock")
    assert front.server(moved, "http") != front.server(SHOP, "http")
    acts = front.changes(front.table([SHOP]), front.table([replace(moved, hosts=("example.com",))]))
    assert sorted((act, key) for act, key, _ in acts) == [
        ("del", "http-any:80/www.example.com"),
        ("set", "http-any:80/example.com"),
    ]


@pytest.mark.parametrize(
    "name",
    ["", "a b", "a'b", "a\nb", "*", "*x.test", "a..b", "-a", "a/b", "%[src]", "x" * 254, "A.test"],
)
def test_what_is_no_host_name_gets_nowhere(name: str) -> None:
    assert not is_host(name)
    with pytest.raises(UsageError):
        front.table([claim("shop", name)])


@given(st.text(max_size=20))
def test_no_name_breaks_out_of_its_word(name: str) -> None:
    try:
        found = text(claim(name, "a.test", http="127.0.0.1:80")).splitlines()
    except UsageError:
        return
    assert len(found) == len(text(claim("shop", "a.test", http="127.0.0.1:80")).splitlines())


@pytest.mark.parametrize("address", ["*:0", "*:80 ssl", "example.com:80", "*:80\n"])
def test_only_addresses_are_listened_on(address: str) -> None:
    with pytest.raises(UsageError):
        text(claim("shop", "a.test", http=address))


def test_an_edge_behind_it_answers_for_its_own_names_alone() -> None:
    plain = config.Config("demo", "127.0.0.1:80", (), (stand.backend("web"),), "/run/demo", 100, 1)
    assert "accept-proxy mode 600 name" not in render.text(plain)
    behind = replace(plain, shared=shared.Shared(("a.test", "*.b.test"), uid=70_001))
    found = render.text(behind)
    assert "front.sock' accept-proxy mode 600 name front uid 70001 gid 70001" in found
    assert "acl ours req.hdr(host),host_only,lower -m str -- 'a.test'" in found
    assert "acl ours req.hdr(host),host_only,lower -m end -- '.b.test'" in found
    assert config.from_json(config.to_json(behind)) == behind


def test_where_the_world_finds_a_stack() -> None:
    assert urls(SHOP) == ("http://example.com", "http://www.example.com")
    assert urls(claim("shop", "a.test", http="127.0.0.1:8080")) == ("http://a.test:8080",)
    assert urls(BLOG)[0] == "https://*.blog.example.com"
