"""What the engine is told of a program, and what is read from its answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gapless.model.process import Address, Bridge, Exit, Mount, Process
from gapless.runtimes.docker import follow, holder, seen, spec

OWNER = spec.Owner("chat", "0a1b2c3d")
PLACE = spec.Place("sha256:1", "70001:70001", (70_002,), "net")
EVERYWHERE = Address(host="0.0.0.0", port=8001)  # noqa: S104  # in a container
NOTICES = Mount("/run/gapless/chat/n", "/run/gapless/chat/n")
SOCKET = Address(socket="/run/gapless/chat/s/web.1@r1/s")


def told(**more: Any) -> dict[str, Any]:
    process = Process("web.1@r1", ("app", "--uds", "x"), **more)
    return spec.container(process, spec.facts(process, 5.0, "boot"), OWNER, PLACE)


def test_a_container_can_gain_nothing_and_change_nothing_but_its_socket_s_directory() -> None:
    body = told(address=SOCKET, mounts=(NOTICES,), identity="web", env={"A": "b c"})
    host = body["HostConfig"]
    assert body["User"] == "70001:70001" and host["GroupAdd"] == ["70002"]
    assert (host["CapDrop"], host["SecurityOpt"]) == (["ALL"], ["no-new-privileges:true"])
    assert host["ReadonlyRootfs"] and list(host["Tmpfs"]) == ["/tmp"]
    assert [(one["Target"], one["ReadOnly"]) for one in host["Mounts"]] == [
        ("/run/gapless/chat/n", True),
        ("/run/gapless/chat/s/web.1@r1", False),
    ]
    assert "Privileged" not in host and "Binds" not in host and "PortBindings" not in host
    assert "A=b c" in body["Env"] and "USER=web" in body["Env"]


def test_the_engine_restarts_nothing_and_bounds_what_it_keeps() -> None:
    host = told()["HostConfig"]
    assert host["RestartPolicy"] == {"Name": "no"}
    assert host["LogConfig"]["Config"] == {"max-size": "16m", "max-file": "3"}
    assert told()["Healthcheck"] == {"Test": ["NONE"]}
    place = replace(PLACE, health="/run/gapless/chat/h/web.1@r1")
    process = Process("web.1@r1", ("app",), shown=30.0)
    body = spec.container(process, spec.facts(process, 5.0, "boot"), OWNER, place)
    check = body["Healthcheck"]
    assert check["Test"] == ["CMD", "/run/gapless/chat/h/web.1@r1", "--version"]
    assert (check["StartPeriod"], check["Retries"]) == (30 * 10**9, 1)
    mounts = [(one["Target"], one["ReadOnly"]) for one in body["HostConfig"]["Mounts"]]
    assert mounts == [("/run/gapless/chat/h", True)]


def test_an_image_keeps_what_is_its_own_unless_it_is_told() -> None:
    own = {"Entrypoint": ["/entry"], "Cmd": ["serve"]}
    for given, wanted, words in [
        ({"argv": ()}, {}, ("/entry", "serve")),
        ({"argv": ("work",)}, {"Cmd": ["work"]}, ("/entry", "work")),
        ({"argv": (), "entrypoint": ("sh",)}, {"Entrypoint": ["sh"]}, ("sh",)),
        (
            {"argv": ("x",), "entrypoint": ("sh", "-c")},
            {"Entrypoint": ["sh", "-c"], "Cmd": ["x"]},
            ("sh", "-c", "x"),
        ),
    ]:
        process = Process("web.1@r1", image="sha256:2", **given)  # type: ignore[arg-type]
        place = spec.Place("sha256:2", "", (), "net")
        body = spec.container(process, spec.facts(process, 5.0, "boot"), OWNER, place)
        assert {key: body[key] for key in ("Entrypoint", "Cmd") if key in body} == wanted
        assert spec.words(process, own) == words
        assert (
            "User" not in body
            and "WorkingDir" not in body
            and body["Env"] == ["GAPLESS_CONTAINER=chat/web.1@r1/0a1b2c3d"]
        )
        assert body["HostConfig"]["CapAdd"] and body["HostConfig"]["CapDrop"] == ["ALL"]


def test_who_is_somebody_from_the_beginning_needs_no_rights_for_becoming_it() -> None:
    process = Process("web.1@r1", ("app",), image="sha256:2")
    for user, few in [
        ("1000", True),
        ("1000:1000", True),
        ("0", False),
        ("", False),
        ("me", False),
    ]:
        place = spec.Place("sha256:2", user, (), "net")
        body = spec.container(process, spec.facts(process, 5.0, "boot"), OWNER, place)
        assert (body["HostConfig"]["CapAdd"] == []) == few


def test_others_find_it_by_each_of_its_names() -> None:
    body = told(image="sha256:2", alias="web", aliases=("my_app",))
    called = {"net": {"Aliases": ["web", "my_app"]}}
    assert body["NetworkingConfig"] == {"EndpointsConfig": called}


def test_names_of_hosts_are_the_engine_s_to_write() -> None:
    hosts = {"old": "10.0.0.5", "machine": "host-gateway"}
    body = told(image="sha256:2", hosts=hosts)
    assert body["HostConfig"]["ExtraHosts"] == ["old:10.0.0.5", "machine:host-gateway"]
    assert told()["HostConfig"]["ExtraHosts"] == []


def test_limits_are_the_engine_s_and_without_them_none_are_set() -> None:
    host = told(memory_limit=1 << 20, cpu_limit=0.25)["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"]) == (1 << 20, 1 << 20, 250_000_000)
    assert not {"Memory", "NanoCpus"} & told()["HostConfig"].keys()


def test_names_are_for_people_and_differ_where_ids_do() -> None:
    assert OWNER.name("web.1@r12.2") == "chat-0a1b2c3d-web.1-r12.2"
    ids = ["web.1@r1", "web.1-r1", "web.1/r1", "web.1 r1", "w" * 200, "w" * 201]
    assert len({OWNER.name(id) for id in ids}) == len(ids) - 1  # @ is not in what people name
    assert all(len(OWNER.name(id)) < 200 for id in ids)


def test_facts_come_back_and_a_stranger_s_label_is_refused() -> None:
    for address in (None, SOCKET, EVERYWHERE):
        known = spec.Facts({"a": "b"}, 5.5, "boot", address, True, 3.0, "log")
        assert spec.Facts.from_json(known.to_json()) == known
    for text in ("", "[]", "{}", '{"address": null, "what": 1}', '{"address": "x"}'):
        with pytest.raises((ValueError, KeyError, TypeError)):
            spec.Facts.from_json(text)


def answer(**state: Any) -> dict[str, Any]:
    known = spec.Facts({"a": "b"}, 5.0, "boot", EVERYWHERE)
    body = {"Status": "running", "Pid": 7, "ExitCode": 0, "OOMKilled": False} | state
    return {
        "Id": "k" * 64,
        "Config": {"Labels": {spec.ID: "web.1@r1", spec.FACTS: known.to_json()}},
        "State": body,
        "NetworkSettings": {"Networks": {"net": {"IPAddress": "172.20.0.3"}}},
    }


def test_a_living_one_is_reached_at_its_own_address() -> None:
    container = seen.read(answer(), "net", "boot")
    assert container is not None
    assert container.found.address == Address(host="172.20.0.3", port=8001)
    assert (container.found.pid, container.found.started_at, container.found.exit) == (7, 5.0, None)
    other = seen.read(answer(), "net", "another boot")
    assert other is not None and other.found.started_at == 0.0


@pytest.mark.parametrize(
    ("state", "exit"),
    [
        ({"ExitCode": 0}, Exit(code=0)),
        ({"ExitCode": 3}, Exit(code=3)),
        ({"ExitCode": 127}, Exit(code=127)),
        ({"ExitCode": 143}, Exit(signal=15)),
        ({"ExitCode": 137}, Exit(signal=9)),
        ({"ExitCode": 137, "OOMKilled": True}, Exit(signal=9, out_of_memory=True)),
        # The kernel killed some child of it; it ended by itself.
        ({"ExitCode": 1, "OOMKilled": True}, Exit(code=1)),
        ({"ExitCode": 255}, Exit(code=255)),
    ],
)
def test_how_it_ended(state: dict[str, Any], exit: Exit) -> None:
    container = seen.read(answer(Status="exited", Pid=0, **state), "net", "boot")
    assert container is not None and not container.alive
    assert (container.found.exit, container.found.pid) == (exit, None)


def test_one_that_outlasted_its_time_was_stopped_for_it() -> None:
    known = spec.Facts({}, 5.0, "boot", timeout=2.0)
    begun = {"StartedAt": "2026-11-29T02:03:50.065541164Z", "ExitCode": 143}
    late = begun | {"FinishedAt": "2026-11-29T02:03:52.5Z"}
    assert seen.end(late, known) == Exit(signal=15, timed_out=True)
    early = begun | {"FinishedAt": "2026-11-29T02:03:51Z"}
    assert seen.end(early, known) == Exit(signal=15)


def test_what_is_not_ours_is_not_read() -> None:
    for labels in (None, {}, {spec.ID: "web.1@r1"}, {spec.ID: "x", spec.FACTS: "{}"}):
        body = answer()
        body["Config"]["Labels"] = labels
        assert seen.read(body, "net", "boot") is None


def test_memory_is_told_without_what_is_only_cached() -> None:
    cpu = {"cpu_usage": {"total_usage": 1_500_000_000}}
    for name in ("total_inactive_file", "inactive_file"):
        memory = {"usage": 100, "stats": {name: 30}}
        assert seen.use({"cpu_stats": cpu, "memory_stats": memory}).memory == 70
    assert seen.use({"cpu_stats": cpu, "memory_stats": {"usage": 5}}).cpu_seconds == 1.5
    assert not seen.sampled({"memory_stats": {}})


def test_a_mark_comes_back_and_counts_from_a_moment_before_the_last_piece() -> None:
    mark, second = follow.Mark(), follow.SECOND
    past = follow.PAST
    mark.add(100 * second, 5)
    assert (mark.since, mark.told, mark.size) == (100 * second - past, 1, 5)
    mark.add(100 * second - past // 2, 5)  # the other stream, told late
    mark.add(100 * second + past, 5)
    assert (mark.since, mark.told, mark.size) == (100 * second - past, 3, 15)
    assert follow.Mark.parse(str(mark)) == mark
    mark.add(101 * second + past, 5)  # and from a later moment on, when that is long ago
    assert (mark.since, mark.told, mark.size) == (101 * second, 2, 20)
    for damaged in ("", "damaged", "1 2 3 4", "1764381830.5 1 1"):
        assert follow.Mark.parse(damaged) == follow.Mark()


def test_times_of_engines_have_nine_digits_or_none() -> None:
    stamps = (b"1970-01-01T00:01:00.065541164Z", b"1970-01-01T00:01:00.5Z", b"1970-01-01T00:01:00Z")
    told = [follow._nanoseconds(stamp) for stamp in stamps]
    assert told == [60_065_541_164, 60_500_000_000, 60_000_000_000]


def test_a_network_without_an_address_of_the_machine_is_no_bridge() -> None:
    def asked(gateway: dict[str, str]) -> Bridge | None:
        return seen.bridge({"IPAM": {"Config": [{"Subnet": "10.89.0.0/24", **gateway}]}})

    assert asked({"Gateway": "10.89.0.1/24"}) == Bridge("10.89.0.1", "10.89.0.0/24")
    assert [asked(one) for one in ({}, {"Gateway": "<nil>"}, {"Gateway": "fd00::1"})] == [None] * 3


def test_what_holds_an_address_runs_nothing_of_its_image_and_may_nothing() -> None:
    owner = spec.Owner("chat", "0123abcd")
    body = holder.waiting("sha256:0", owner)
    assert (body["Entrypoint"], body["User"]) == (["/proc/1/exe"], "65534:65534")
    # No look takes it for a program of the stack, and the next controller sweeps it.
    assert body["Labels"] == owner.labels | {spec.ONCE: "1"}
    host = body["HostConfig"]
    assert (host["NetworkMode"], host["CapDrop"], host["Mounts"]) == (owner.network, ["ALL"], [])
    assert host["Init"] and host["ReadonlyRootfs"]
