"""What a program is given, and what it is not."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.runtimes.process_bench import dead, find, until

from gapless.errors import EnvironmentFault, RuntimeFault
from gapless.model.process import Exit, Process
from gapless.runtimes.machine import accounts, addresses, files, proc
from gapless.runtimes.process import ProcessRuntime, launcher, priority
from gapless.runtimes.process import runtime as process_runtime

ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not ROOT, reason="dropping privileges needs root")
as_user = pytest.mark.skipif(ROOT, reason="root does drop privileges")


async def output(runtime: ProcessRuntime, process: Process) -> str:
    """Run it to its end; what it wrote."""
    await runtime.start(process)
    await until(lambda: dead(runtime, process.id))
    return runtime.log(process.id).read_text()


async def test_it_leads_a_session_of_its_own(runtime: ProcessRuntime) -> None:
    found = await runtime.start(Process("a", ("sleep", "600")))
    assert found.pid
    seen = proc.stat(found.pid)
    assert seen
    assert (seen.session, seen.group) == (found.pid, found.pid)
    assert found.started_at == seen.start / proc.TICKS

    def clean() -> bool:  # the loader opens libraries for a moment; what is inherited stays
        inherited = sorted(int(each.name) for each in Path(f"/proc/{found.pid}/fd").iterdir())
        return inherited == [0, 1, 2]

    await until(clean)


async def test_signals_are_as_a_program_expects_them(runtime: ProcessRuntime) -> None:
    text = await output(runtime, Process("a", ("grep", "^Sig[BI]", "/proc/self/status")))
    masks = {int(line.split()[1], 16) for line in text.splitlines()}
    # 32 and 33 are the C library's own, and out of anybody's reach.
    assert {mask & ~(1 << 31 | 1 << 32) for mask in masks} == {0}


async def test_it_may_open_as_many_files_as_the_hard_limit_allows(runtime: ProcessRuntime) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, before[1]), before[1]))
    try:
        text = await output(runtime, Process("a", ("sh", "-c", "ulimit -Sn; ulimit -Hn")))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    soft, hard = (float(word.replace("unlimited", "inf")) for word in text.split())
    assert soft == min(hard, launcher.DESCRIPTORS)


async def test_the_environment_is_what_it_was_given_and_a_minimum(
    runtime: ProcessRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-the-controller")
    text = await output(runtime, Process("a", ("env",), env={"COLOUR": "blue", "LANG": "C"}))
    given = dict(line.split("=", 1) for line in text.splitlines())
    assert given["COLOUR"] == "blue"
    assert given["LANG"] == "C"
    assert set(given) - {"COLOUR", "GAPLESS_PROCESS"} <= {*("PATH", "HOME", "LANG"), *_kept()}


def _kept() -> tuple[str, ...]:
    return ("LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "USER", "LOGNAME")


async def test_the_program_is_looked_for_on_its_own_path(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    program = tmp_path / "bin" / "hello"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho hello from $PWD\n")
    program.chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    path = f"/nowhere:{program.parent}:/usr/bin:/bin"
    given = Process("a", ("hello",), env={"PATH": path}, cwd=str(work))
    assert await output(runtime, given) == f"hello from {work}\n"


@pytest.mark.parametrize(
    ("argv", "cwd", "reason"),
    [
        (("nonesuch",), None, "cannot run nonesuch: No such file"),
        (("/etc/passwd",), None, "cannot run /etc/passwd: Permission denied"),
        (("true",), "/nowhere", "cannot enter /nowhere: No such file"),
    ],
)
@pytest.mark.parametrize("record_exit", [False, True])
async def test_what_cannot_start_says_why(
    runtime: ProcessRuntime,
    argv: tuple[str, ...],
    cwd: str | None,
    reason: str,
    record_exit: bool,
) -> None:
    with pytest.raises(RuntimeFault, match=reason):
        await runtime.start(Process("a", argv, cwd=cwd, record_exit=record_exit))
    assert list(await runtime.look()) == []
    assert [each for each in runtime.state.rglob("*") if each.name.endswith("a.json")] == []


async def test_a_full_disk_starts_nothing(
    runtime: ProcessRuntime, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    target = tmp_path / "ran"
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EnvironmentFault, match="No space left"):
        await runtime.start(Process("a", ("touch", str(target))))
    monkeypatch.undo()
    assert list(await runtime.look()) == []
    assert not target.exists()


@pytest.mark.parametrize("id", ["", ".hidden", "x" * 300])
async def test_an_impossible_id_is_refused(runtime: ProcessRuntime, id: str) -> None:
    with pytest.raises(RuntimeFault, match="cannot be the id"):
        await runtime.start(Process(id, ("true",)))


async def test_an_id_cannot_leave_its_directory(runtime: ProcessRuntime) -> None:
    await runtime.start(Process("a/../../../escape", ("true",)))
    found = await until(lambda: dead(runtime, "a/../../../escape"))
    assert found.exit == Exit(code=0)
    assert runtime.log("a/../../../escape").parent == runtime.state / "logs"


@pytest.mark.parametrize("record_exit", [False, True])
async def test_a_secret_is_in_no_file_and_no_argument(
    runtime: ProcessRuntime, record_exit: bool
) -> None:
    given = Process("a", ("sleep", "600"), env={"KEY": "s3cr3t-value"}, record_exit=record_exit)
    await runtime.start(given)
    for path in runtime.state.rglob("*"):
        assert not path.is_file() or b"s3cr3t-value" not in path.read_bytes(), path
    for each in proc.scan():
        try:
            arguments = Path(f"/proc/{each.pid}/cmdline").read_bytes()
        except OSError:
            continue
        assert b"s3cr3t-value" not in arguments
    assert "s3cr3t" not in repr(given)


async def test_records_and_logs_are_the_owner_s_alone(runtime: ProcessRuntime) -> None:
    await runtime.start(Process("a", ("sleep", "600")))
    for name in ("procs", "exits", "logs"):
        assert (runtime.state / name).stat().st_mode & 0o777 == 0o700
    assert (runtime.state / "procs" / "a.json").stat().st_mode & 0o777 == 0o600
    assert runtime.log("a").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("strangers", [False, True])
async def test_use_counts_the_children_too(
    runtime: ProcessRuntime, monkeypatch: pytest.MonkeyPatch, strangers: bool
) -> None:
    """Also where everybody who was there before is known not to be ours."""
    if strangers:
        monkeypatch.setattr(process_runtime, "YOUNG", 0.0)
        monkeypatch.setattr(process_runtime, "MEET_EVERY", 2)
        await runtime.usage([])
    burn = "n=0; while [ $n -lt 60000 ]; do n=$((n+1)); done; echo done; sleep 600"
    await runtime.start(Process("a", ("sh", "-c", f"sh -c '{burn}' & wait")))
    await until(lambda: runtime.log("a").read_text())
    for _ in range(2):  # strangers are met anew while it runs, and known in the pass after
        use = (await runtime.usage(["a"]))["a"]
    await runtime.start(Process("b", ("sleep", "600")))
    idle = (await runtime.usage(["b"]))["b"]
    assert use.cpu_seconds > idle.cpu_seconds
    assert use.memory > idle.memory


@pytest.mark.skipif(
    not Path("/proc/self/autogroup").exists(), reason="the kernel has no autogroups"
)
async def test_it_gives_way_as_long_as_it_is_told(runtime: ProcessRuntime) -> None:
    await runtime.start(Process("a", ("sleep", "600"), background=True))
    found = await find(runtime, "a")

    def nice() -> str:
        return Path(f"/proc/{found.pid}/autogroup").read_text().split()[-1]

    assert nice() == str(priority.BACKGROUND)
    await runtime.background("a", False)
    assert nice() == str(priority.NORMAL)
    await runtime.background("a", True)
    assert nice() == str(priority.BACKGROUND)
    await runtime.background("nobody", True)


@pytest.mark.skipif(not priority.may_raise(), reason="we could not leave the policy again")
async def test_a_processor_where_somebody_boots_counts_as_idle_for_who_serves(
    runtime: ProcessRuntime,
) -> None:
    """Every thread of the session comes back, also those of children."""
    code = (
        "import subprocess, threading, time\n"
        "threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    await runtime.start(Process("a", (sys.executable, "-c", code), background=True))
    child = int(await until(lambda: runtime.log("a").read_text()))
    found = await find(runtime, "a")

    def policies() -> list[int]:
        threads = Path(f"/proc/{found.pid}/task").iterdir()
        return [os.sched_getscheduler(int(each.name)) for each in threads] + [
            os.sched_getscheduler(child)
        ]

    assert policies() == [os.SCHED_IDLE] * 3
    await runtime.background("a", False)
    assert policies() == [os.SCHED_OTHER] * 3
    await runtime.background("a", True)
    assert policies() == [os.SCHED_IDLE] * 3


def test_who_may_not_come_back_does_not_go() -> None:
    """As for root in a container without CAP_SYS_NICE: its replicas would stay behind for ever."""
    code = "from gapless.runtimes.process import priority; print(priority.may_raise())"
    dropped = ["setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice"]
    prefix = dropped if ROOT and shutil.which("setpriv") else []
    done = subprocess.run(
        [*prefix, sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert done.stdout == "False\n"


async def test_a_job_keeps_its_share(runtime: ProcessRuntime) -> None:
    """It may hold a lock of the database that replicas wait for."""
    job = Process("a", ("sleep", "600"), record_exit=True, background=True)
    await runtime.start(job)
    assert os.sched_getscheduler((await find(runtime, "a")).pid or 0) == os.SCHED_OTHER


SOME = """
import subprocess
from pathlib import Path
from gapless.runtimes.process import priority
made = [subprocess.Popen(["sleep", "60"], start_new_session=True) for _ in range(3)]
for nice in (priority.BACKGROUND, priority.NORMAL):
    for child in made:
        priority.set_group(child.pid, nice)
    print(*(Path(f"/proc/{child.pid}/autogroup").read_text().split()[-1] for child in made))
for child in made:
    child.kill()
    child.wait()
"""


@pytest.mark.skipif(
    not Path("/proc/self/autogroup").exists(), reason="the kernel has no autogroups"
)
def test_an_ordinary_user_changes_several_at_once() -> None:
    """The kernel answers EAGAIN to the second; unheard, that left replicas behind for ever."""
    user: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": []} if ROOT else {}
    asked = [sys.executable, "-c", SOME]
    try:
        done = subprocess.run(
            asked, check=False, capture_output=True, text=True, timeout=60, **user
        )
    except PermissionError:
        pytest.skip("an ordinary user cannot reach this interpreter")
    if "gapless" in done.stderr:
        pytest.skip("an ordinary user cannot reach this code")
    assert done.stdout.split() == [str(priority.BACKGROUND)] * 3 + [str(priority.NORMAL)] * 3
    assert done.stderr == ""


# -- addresses ------------------------------------------------------------------------------


async def test_ports_are_free_and_not_the_kernel_s_to_give(runtime: ProcessRuntime) -> None:
    low, high = addresses.ephemeral()
    first = runtime.address("a", "port").port
    assert first
    assert not low <= first <= high
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first + 1))
        following = runtime.address("b", "port").port
    assert following not in (None, first, first + 1)


async def test_an_adopted_program_s_port_is_not_handed_out(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    """It may not have bound it yet, so that trying to bind proves nothing."""
    given = runtime.address("a", "port")
    await runtime.start(Process("a", ("sleep", "600"), address=given))
    second = ProcessRuntime(runtime.state, tmp_path / "run", "chat")
    assert second.address("b", "port") != given
    second.close()
    await runtime.signal("a", "KILL")
    await until(lambda: dead(runtime, "a"))
    await runtime.forget("a")
    assert given.port not in runtime._addresses.handed


async def test_a_socket_is_bound_and_its_directory_goes_with_it(runtime: ProcessRuntime) -> None:
    given = runtime.address("a", "socket")
    assert given.socket
    script = (
        "import os,socket; s=socket.socket(socket.AF_UNIX); s.bind(os.environ['AT']);"
        "s.listen(); print('up', flush=True); s.accept()"
    )
    argv = ("/usr/bin/env", "python3", "-c", script)
    await runtime.start(Process("a", argv, env={"AT": given.socket}, address=given, identity="web"))
    await until(lambda: runtime.log("a").read_text() == "up\n")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(given.socket)
    await until(lambda: dead(runtime, "a"))
    await runtime.forget("a")
    assert not Path(given.socket).parent.exists()


def test_a_long_id_gets_a_short_socket(tmp_path: Path) -> None:
    made = addresses.Addresses(tmp_path, "chat", lambda: None)
    paths = {made.fresh_socket("x" * 100 + str(n)).socket for n in range(5)}
    assert len(paths) == 5
    assert all(path and len(path) <= 107 for path in paths)


# -- identities -----------------------------------------------------------------------------


@as_user
async def test_without_root_an_identity_changes_nothing(runtime: ProcessRuntime) -> None:
    assert runtime.identity_uid("web") is None
    text = await output(runtime, Process("a", ("id", "-u"), identity="web"))
    assert int(text) == os.geteuid()


@as_root
async def test_as_root_a_service_is_nobody(runtime: ProcessRuntime) -> None:
    uid = runtime.identity_uid("web")
    script = "id -u; id -g; id -G; grep -E 'NoNewPrivs|CapEff|CapPrm' /proc/self/status"
    text = await output(runtime, Process("a", ("sh", "-c", script), identity="web"))
    ids, capabilities = text.splitlines()[:3], text.splitlines()[3:]
    assert ids == [str(uid), str(uid), f"{uid} {runtime.shared_group()}"]
    assert [line.split()[1] for line in capabilities] == ["0" * 16, "0" * 16, "1"]


@as_root
async def test_as_root_it_has_a_home_and_nothing_else_of_the_state(
    runtime: ProcessRuntime,
) -> None:
    script = (
        "touch $HOME/a $TMPDIR/b && echo wrote; ls $1/procs $1/logs $1/exits 2>/dev/null;"
        "cat $1/logs/* 2>/dev/null; echo again >> /dev/stderr; echo end"
    )
    given = Process("a", ("sh", "-c", script, "sh", str(runtime.state)), identity="web")
    assert await output(runtime, given) == "wrote\nagain\nend\n"


@as_root
async def test_uids_are_stable_and_never_shared(runtime: ProcessRuntime, tmp_path: Path) -> None:
    ours = {name: runtime.identity_uid(name) for name in ("web", "worker", "edge")}
    again = accounts.Accounts(runtime.state, "chat")
    assert {name: again.uid(name) for name in ours} == ours
    other = accounts.Accounts(tmp_path / "shop", "shop")
    everyone = [*ours.values(), *(other.uid(name) for name in ours)]
    assert len(set(everyone)) == 6
    assert all(uid is not None and uid >= 61_184 for uid in everyone)


@as_root
async def test_a_uid_that_is_claimed_is_passed_over(tmp_path: Path) -> None:
    first = accounts.Accounts(tmp_path / "chat", "chat").uid("web")
    (tmp_path / ".uids" / str(first)).write_text("somebody/else")
    second = accounts.Accounts(tmp_path / "chat", "chat").uid("web")
    assert first is not None
    assert second == first + 1 or second == accounts.WIDE[0]


@as_root
async def test_only_the_edge_may_connect_to_a_service(runtime: ProcessRuntime) -> None:
    given = runtime.address("a", "socket")
    assert given.socket
    serve = (
        "import os,socket; s=socket.socket(socket.AF_UNIX); s.bind(os.environ['AT']);"
        "s.listen(9); print('up', flush=True)\nwhile 1: s.accept()"
    )
    connect = "import os,socket; socket.socket(socket.AF_UNIX).connect(os.environ['AT'])"
    env = {"AT": given.socket}
    await runtime.start(
        Process("a", ("/usr/bin/python3", "-c", serve), env=env, address=given, identity="web")
    )
    await until(lambda: runtime.log("a").read_text() == "up\n")
    for identity, code in (("edge", 0), ("worker", 1)):
        id = f"from-{identity}"
        argv = ("/usr/bin/python3", "-c", connect)
        await output(runtime, Process(id, argv, env=env, identity=identity))
        assert (await find(runtime, id)).exit == Exit(code=code), runtime.log(id).read_text()


def test_a_uid_exists_only_where_the_namespace_has_it() -> None:
    assert accounts.mapped(99_999, "         0          0 4294967295\n")
    rootless = "         0       1000          1\n         1     100000      65536\n"
    assert not accounts.mapped(99_999, rootless)
    assert accounts.mapped(accounts.NARROW[-1], rootless)


def test_names_of_files_are_told_apart() -> None:
    names = ["a/b", "a%2Fb", "a b", "web.1@r12", "job:x"]
    assert len({files.file_name(name) for name in names}) == len(names)
