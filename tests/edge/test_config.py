"""The configuration text: one harmless argument for each foreign value, or a refusal."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gapless.edge import awaiting, binary, config, files, limits, private, render, tls, words
from gapless.edge.cors import Cors
from gapless.edge.forwarded import Proxies
from gapless.edge.shared import Shared
from gapless.errors import EdgeRefused, GaplessError, UsageError
from gapless.model.process import Address, Bridge
from gapless.model.stack import Stack
from tests.edge import stand

CONFIG = stand.CONFIG
CORS = Cors(("https://a.example",), "/p", ("GET",), ("X-A",), ("X-B",))
MARK = "injected"
NASTY = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        [
            f"/x'\n    {MARK} 1",
            f"/x' {MARK} '",
            "/x\r\nfrontend evil",
            "/$HOME",
            "/%[env(HOME)]",
            "/a\\",
            "/a #",
            '/"a',
            "-f /etc/passwd",
            "-- x",
            "/a if TRUE",
            "/\x00",
            "*",
            "/ü",
            "/\u2028x",
        ]
    ),
)


def _stack(text: str = "", **service: object) -> Stack:
    table = {"run": "uvicorn a:b --uds ${socket}", **service}
    return Stack.model_validate({"gapless": 1, "name": "demo", "service": {"web": table}})


def _of(stack: Stack, **private: str) -> config.Config:
    return config.of_stack(stack, private, run_dir="/run/x", maxconn=100, threads=1)


def _words(text: str) -> list[list[str]]:
    """Lines as HAProxy splits them: white space outside single quotes (we write no others)."""
    lines = []
    for line in text.split("\n"):
        found, word, quoted, begun = [], "", False, False
        for char in line:
            if char == "'":
                quoted, begun = not quoted, True
            elif char in " \t" and not quoted:
                found += [word] if word or begun else []
                word, begun = "", False
            else:
                word += char
        assert not quoted
        lines.append(found + ([word] if word or begun else []))
    return lines


def _shape(wanted: config.Config) -> list[int]:
    return [len(line) for line in _words(render.text(wanted))]


def _private(path: str = "/p", user: str = "ops", allow: str = "10.0.0.1") -> private.Private:
    guard = private.Guard((allow,), (private.Login(user, "OPS", "a2V5", "00ff"),))
    return private.Private((private.Place(path, guard),))


@given(NASTY, NASTY, NASTY, NASTY)
@settings(max_examples=300)
def test_a_hostile_string_is_refused_or_one_argument(
    path: str, host: str, check: str, allow: str
) -> None:
    plain = replace(
        CONFIG,
        rules=(config.Rule("/p", "h.example", "web"),),
        backends=(replace(CONFIG.backends[0], check="/c"),),
        allow=("10.0.0.1",),
        private=_private(),
        cors=CORS,
    )
    for hostile in (
        replace(plain, cors=replace(CORS, origins=(host,))),
        replace(plain, cors=replace(CORS, path=path)),
        replace(plain, cors=replace(CORS, headers=(check,))),
        replace(plain, private=_private(path=path)),
        replace(plain, private=_private(user=host)),
        replace(plain, private=_private(allow=allow)),
        replace(plain, rules=(config.Rule(path, "h.example", "web"),)),
        replace(plain, rules=(config.Rule("/p", host, "web"),)),
        replace(plain, backends=(replace(plain.backends[0], check=check),)),
        replace(plain, allow=(allow,)),
        replace(plain, run_dir=f"/run/{path}"),
    ):
        try:
            shape = _shape(hostile)
        except UsageError:
            continue
        bare = hostile.rules[0].path.strip("/") == "" or hostile.rules[0].host == "*"
        # What is about all paths has none to compare.
        tops = (hostile.private.places[0].path, hostile.cors.path if hostile.cors else "")
        bare = bare or any(top.strip("/") == "" for top in tops)
        assert bare or len(shape) == len(_shape(plain))
        assert bare or shape == _shape(plain)


@given(NASTY)
@settings(max_examples=200)
def test_a_hostile_name_is_refused_or_one_word(name: str) -> None:
    server = config.Server("web.1", "web", Address(socket="/a"), "token")
    for hostile in (
        replace(CONFIG, stack=name),
        replace(CONFIG, listen=name),
        replace(CONFIG, backends=(stand.backend(name),)),
    ):
        try:
            shape = _shape(hostile)
        except UsageError:
            continue
        assert shape == _shape(CONFIG)
    for stranger in (replace(server, name=name), replace(server, cookie=name)):
        try:
            text = render.text(CONFIG, [stranger])
        except UsageError:
            continue
        assert name.replace("@", ":") in text
        assert name.isascii()


@given(NASTY, NASTY)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_haproxy_itself_finds_nothing_wrong(tmp_path: Path, path: str, address: str) -> None:
    wanted = replace(
        CONFIG,
        rules=(config.Rule(f"/{path}", None, "web"),),
        backends=(stand.backend("web", check=f"/{path}"),),
        run_dir=str(tmp_path),
    )
    servers = [config.Server("web.1", "web", Address(socket=f"/{address}"), "token")]
    files.prepare(tmp_path, tmp_path, wanted)
    try:
        _in_force(tmp_path, wanted, servers)
    except UsageError:
        return
    except EdgeRefused as refused:  # a socket path may be too long or hold what HAProxy dislikes
        assert "server" in refused.message


def test_the_planted_fault_is_found(tmp_path: Path) -> None:
    """Without quoting, the same check fails: HAProxy reads the second line as its own."""
    text = render.text(CONFIG).replace("'/run/x/", f"'{tmp_path}/")
    path = tmp_path / "cfg"
    path.write_text(text.replace("bind '127.0.0.1:8080'", f"bind 127.0.0.1:8080\n    {MARK} 1"))
    for name in (config.MAINTENANCE_LIST, config.HOLD_MAP, config.STATE_FILE):
        (tmp_path / name).touch()
    (tmp_path / awaiting.MAP).touch()
    (tmp_path / config.LINE_SCRIPT).write_text(files.script("line.lua"))
    (tmp_path / config.HOLD_SCRIPT).write_text(files.script("hold.lua"))
    (tmp_path / awaiting.SCRIPT).write_text(files.script("await.lua"))
    with pytest.raises(EdgeRefused, match=MARK):
        files.check(binary.find(), path)


def test_haproxy_has_no_warning_about_a_rich_configuration(tmp_path: Path) -> None:
    wanted = replace(
        CONFIG,
        rules=(
            config.Rule("/", None, "web"),
            config.Rule("/api", "*.example.com", "api"),
            config.Rule("/", "a.example.com", "api"),
        ),
        backends=(
            stand.backend("web", reuse="always"),
            stand.backend("api", check=None, sticky=False, private_bind="127.0.0.1:9001"),
        ),
        allow=("10.0.0.0/8", "::1"),
        maintenance_page="<h1>%[env(HOME)] 'soon'</h1>",
        run_dir=str(tmp_path),
    )
    files.prepare(tmp_path, tmp_path, wanted)
    servers = [config.Server("web.1@r1", "web", Address(host="127.0.0.1", port=9), "t", False)]
    _in_force(tmp_path, wanted, servers)
    done = subprocess.run(
        [str(binary.find()), "-c", "-f", str(tmp_path / files.TEXT)],
        check=True,
        capture_output=True,
    )
    assert done.stderr == b""


def test_who_has_a_network_of_its_own_comes_by_that_and_nobody_else(tmp_path: Path) -> None:
    wanted = replace(
        CONFIG,
        run_dir=str(tmp_path),
        listen="127.0.0.1:8080",
        backends=(stand.backend("web", private_bind="127.0.0.1:9001"),),
        bridge=Bridge("172.31.7.1", "172.31.0.0/16"),
    )
    assert wanted.addresses[-2:] == ("172.31.7.1:8080", "172.31.7.1:9001")
    assert wanted.public == ("127.0.0.1:8080",)
    text = _install(tmp_path, wanted)
    assert text.count("tcp-request connection reject if bridged !of-bridge") == 2
    everywhere = replace(wanted, listen="*:8080")
    assert "bind '172.31.7.1:8080'" not in render.text(everywhere)
    secure = replace(
        wanted,
        binds=(config.Bind("127.0.0.1:8443", tls=True),),
        tls=tls.Tls(folder="/c", certificates=("own",), name="127.0.0.1", port=8443),
    )
    assert "172.31.7.1:8443" in secure.addresses
    [line] = [one for one in render.text(secure).splitlines() if "172.31.7.1:8443" in one]
    assert " ssl " in line
    with pytest.raises(UsageError):
        render.text(replace(wanted, bridge=Bridge("172.31.7.1", "any; bind *:1")))


MANY = (
    *(f"10.{n // 256}.{n % 256}.0/24" for n in range(250)),
    *(f"2001:0db8:1111:2222:3333:4444:{n:04x}:8888/128" for n in range(250)),
)
HOSTS = tuple(f"{wild}{n}.example.com" for n in range(50) for wild in ("", "*."))


def _lists(tmp_path: Path) -> config.Config:
    """Every list that may be long, and is."""
    return replace(
        CONFIG,
        run_dir=str(tmp_path),
        allow=MANY,
        proxies=Proxies(MANY),
        limits=limits.Limits((limits.Rate(1, 1.0, allow=MANY),), connections=5),
        shared=Shared(HOSTS),
        cors=Cors(tuple(f"https://{host}" for host in MANY), methods=("GET",)),
    )


def _in_force(place: Path, wanted: config.Config, servers: Sequence[config.Server]) -> None:
    draft = files.draft(place, place, wanted, servers)
    files.check(binary.find(), draft)
    files.enforce(place, wanted)


def _install(tmp_path: Path, wanted: config.Config) -> str:
    files.prepare(tmp_path, tmp_path, wanted)
    _in_force(tmp_path, wanted, ())
    return render.text(wanted)


def test_lists_are_as_long_as_one_likes(tmp_path: Path) -> None:
    text = _install(tmp_path, _lists(tmp_path))
    for last in (MANY[-1], HOSTS[-2], HOSTS[-1][1:]):
        assert f"'{last}'" in text


def test_planted_a_list_on_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "CHUNK", 1000)
    with pytest.raises(EdgeRefused, match="too many words"):
        _install(tmp_path, _lists(tmp_path))


def test_longer_paths_and_named_hosts_come_first() -> None:
    rules = [
        config.Rule("/", None, "web"),
        config.Rule("/api", None, "api"),
        config.Rule("/api/v2", None, "v2"),
        config.Rule("/", "*.example.com", "wild"),
        config.Rule("/", "a.example.com", "host"),
        config.Rule("/x", "a.example.com", "hostx"),
    ]
    names = ("web", "api", "v2", "wild", "host", "hostx")
    wanted = replace(
        CONFIG, rules=tuple(rules), backends=tuple(stand.backend(name) for name in names)
    )
    public = render.text(wanted).partition("frontend _alone:")[0]
    order = [line[1] for line in _words(public) if line[:1] == ["use_backend"]]
    assert order.pop(0) == "_refused"
    assert order.pop(0).startswith("_next")
    names = ("hostx", "host", "wild", "v2", "api", "web")
    assert order == [each for name in names for each in (config.floor(name), name)]


def test_of_a_stack() -> None:
    wanted = _of(_stack(ready="/up", sticky="cookie", timeout="5s"), web="127.0.0.1:9001")
    assert wanted.rules == (config.Rule("/", None, "web"),)
    (backend,) = wanted.backends
    assert backend.check == "/up"
    assert backend.sticky
    assert backend.timeout == 5
    assert backend.private_bind == "127.0.0.1:9001"
    assert backend.reuse == "safe"
    render.text(wanted)


def test_services_without_http_or_route_are_not_published() -> None:
    stack = Stack.model_validate(
        {
            "gapless": 1,
            "name": "demo",
            "service": {
                "web": {"run": "a ${socket}"},
                "api": {"run": "a ${port}", "route": False},
                "worker": {"run": "celery"},
            },
        }
    )
    wanted = _of(stack)
    assert [rule.backend for rule in wanted.rules] == ["web"]
    assert [backend.name for backend in wanted.backends] == ["api", "web"]


@pytest.mark.parametrize(
    ("run", "reuse"),
    [
        ("uvicorn a:b --uds ${socket} --timeout-keep-alive 75", "always"),
        ("gunicorn a:b --bind unix:${socket} --keep-alive=75", "always"),
        ("uvicorn a:b --uds ${socket} --timeout-keep-alive 5", "safe"),
        ("uvicorn a:b --uds ${socket} --timeout-keep-alive", "safe"),
        ("uvicorn a:b --uds ${socket} --timeout-keep-alive x", "safe"),
        ("uvicorn a:b --uds ${socket}", "safe"),
    ],
)
def test_idle_connections_are_shared_only_where_the_server_keeps_them(run: str, reuse: str) -> None:
    assert _of(_stack(run=run)).backends[0].reuse == reuse


def test_the_digest_follows_each_field_and_survives_a_file() -> None:
    changed = [
        replace(CONFIG, maxconn=101),
        replace(CONFIG, maintenance_page="x"),
        replace(CONFIG, allow=("::1",)),
        replace(CONFIG, backends=(stand.backend("web", timeout=1),)),
        replace(CONFIG, rules=()),
    ]
    assert len({config.digest(each) for each in [CONFIG, *changed]}) == len(changed) + 1
    for each in changed:
        assert config.from_json(config.to_json(each)) == each


def test_a_page_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    wanted = replace(CONFIG, run_dir=str(tmp_path), maintenance_page="x" * 20_000)
    with pytest.raises(GaplessError, match="larger than"):
        files.prepare(tmp_path, tmp_path, wanted)
