"""Without root: the plan, the filter that guards the first process, ids and control groups; nothing is run."""

from __future__ import annotations

import errno
import os
import platform
from pathlib import Path

import pytest

from bootstrap import settings
from bootstrap.settings import UNPRIVILEGED
from bootstrap.wire import ENV_MEMORY_LIMIT, ENV_SOCKET
from rie import engine
from rie.engine.oci import rootless
from rie.engine.oci.launcher import kernel, plan, seccomp, syscalls, userns
from rie.engine.oci.launcher.operations import (
    ROOTLESS_OVERLAY,
    Bind,
    Capabilities,
    Closed,
    Overlay,
    Pivot,
    ProcessCount,
    Seccomp,
    Users,
)
from rie.limits import cgroup
from rie.limits.groups import Group, Groups
from tests.unit.test_launcher import ALLOW, MACHINES, STAGE, ask, refusal, sandbox

RUN = "/s/root/run/rie"


def operations(has_own_user: bool, **changes: object) -> list[plan.Operation]:
    program = kernel.filter_of(seccomp.program("x86_64", guards_first=not has_own_user))
    return plan.plan(sandbox(**changes), STAGE, program, plan.Rootless(7, has_own_user))


# -- the plan ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("has_own_user", [True, False])
def test_privileges_end_in_a_user_namespace_that_owns_no_mount(has_own_user: bool) -> None:
    kinds = [type(operation) for operation in operations(has_own_user, pids=20)]
    order = [kinds.index(kind) for kind in (Pivot, Users, ProcessCount, Capabilities, Seccomp)]
    assert order == sorted(order) and order[-1] == len(kinds) - 1


def test_a_function_of_the_bootstraps_user_finds_neither_door_nor_capability() -> None:
    shared, apart = operations(False), operations(True)
    assert RUN not in [operation.target for operation in shared if isinstance(operation, Bind)]
    assert RUN in [operation.target for operation in apart if isinstance(operation, Bind)]
    assert Capabilities(()) in shared and Closed() in shared
    assert Capabilities((5, 6, 7)) in apart and Closed() not in apart


def test_overlays_take_the_marks_that_users_may_set() -> None:
    mounted = operations(True, given=[["/layers", "/opt"]])
    assert {operation.options for operation in mounted if isinstance(operation, Overlay)} == {ROOTLESS_OVERLAY}


def test_where_a_control_group_counts_processes_nothing_else_does() -> None:
    assert not [operation for operation in operations(True) if isinstance(operation, ProcessCount)]
    assert ProcessCount(20) in operations(True, pids=20)


def test_the_function_has_the_ids_of_the_service() -> None:
    assert tuple(userns.FUNCTION.values()) == UNPRIVILEGED


# -- the filter --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", MACHINES)
def test_nothing_touches_the_first_process_and_all_others_may_be(machine: str) -> None:
    for number in seccomp.OF_A_PROCESS[machine]:
        assert ask(machine, number, 1, guards_first=True) == refusal(errno.EPERM), number
        for other in (0, 2, 4711, -1):
            assert ask(machine, number, other, guards_first=True) == ALLOW, number
        assert ask(machine, number, 1) == ALLOW, number
    for number, kind in seccomp.PRIORITY[machine].items():
        assert ask(machine, number, kind, 1, guards_first=True) == refusal(errno.EPERM)
        assert ask(machine, number, kind, 2, guards_first=True) == ALLOW
        for group in {0, 1, 2, 3} - {kind}:
            assert ask(machine, number, group, 2, guards_first=True) == refusal(errno.EPERM)
    assert ask(machine, seccomp.PIDFD_SEND_SIGNAL, 5, guards_first=True) == refusal(errno.EPERM)


@pytest.mark.parametrize("machine", MACHINES)
def test_the_guard_allows_nothing_that_the_list_does_not(machine: str) -> None:
    listed = set(syscalls.numbers(machine).values())
    assert {*seccomp.OF_A_PROCESS[machine], *seccomp.PRIORITY[machine], seccomp.PIDFD_SEND_SIGNAL} <= listed
    guarded = {*seccomp.OF_A_PROCESS[machine], *seccomp.PRIORITY[machine], seccomp.PIDFD_SEND_SIGNAL}
    for number in set(range(500)) - guarded:
        assert ask(machine, number, 1, 1, guards_first=True) == ask(machine, number, 1, 1), number


@pytest.mark.parametrize("machine", MACHINES)
def test_where_nobody_counts_it_no_memory_is_had_but_a_processes(machine: str) -> None:
    listed = syscalls.numbers(machine)
    for name, number in listed.items():
        expected = refusal(errno.EPERM) if name in seccomp.OF_NO_PROCESS else ask(machine, number)
        assert ask(machine, number, shows_memory=True) == expected, name
    assert set(seccomp.OF_NO_PROCESS) <= set(listed)


# -- ids ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ada:100000:65536\n", (100000, 65536)),
        ("eve:1:2\n1000:200000:10\n", (200000, 10)),
        ("eve:1:2\n", None),
        ("ada:100000\nada:x:1\nada:5:0\n", None),
        ("", None),
    ],
)
def test_further_ids_stand_in_a_file_by_name_or_number(
    text: str, expected: tuple[int, int] | None, tmp_path: Path
) -> None:
    (tmp_path / "subuid").write_text(text)
    assert rootless._range(tmp_path / "subuid", {"ada", "1000"}) == expected
    assert rootless._range(tmp_path / "nothing", {"ada"}) is None


def test_an_old_kernel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "release", lambda: "5.10.0-13-amd64")
    assert rootless.find.__wrapped__() == rootless.Found(None, "Linux 5.10.0-13-amd64 is older than 5.14")


@pytest.mark.parametrize(
    ("uid", "docker", "why_not", "expected"),
    [
        (0, True, None, ("oci", "Linux with root")),
        (0, True, "no overlay", ("docker", "oci: no overlay")),
        (1000, True, None, ("docker", "not root, and Docker answers")),
        (1000, False, None, ("oci", "not root, Docker does not answer, and users may have namespaces")),
        (1000, False, "refused", ("docker", "oci: refused")),
    ],
)
def test_the_default_engine(
    uid: int, docker: bool, why_not: str | None, expected: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(engine, "_docker_answers", lambda: docker)
    monkeypatch.setattr("rie.engine.oci.engine.unavailable", lambda: why_not)
    assert engine.default() == expected


# -- memory ------------------------------------------------------------------------------------------------------------


def test_a_manager_says_if_the_bootstrap_must_watch_and_no_function_sees_it() -> None:
    managed = {ENV_SOCKET: "/run/rie/front", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128"}
    assert settings.read(managed, ["x"]).memory_limit_mb == 0
    watching = settings.read({**managed, ENV_MEMORY_LIMIT: "128"}, ["x"])
    assert watching.memory_limit_mb == 128
    assert ENV_MEMORY_LIMIT not in watching.variables
    alone = {ENV_MEMORY_LIMIT: "64", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128"}
    assert settings.read(alone, ["x"]).memory_limit_mb == 128


# -- control groups ----------------------------------------------------------------------------------------------------


def process(tmp_path: Path, groups: str, mounts: str) -> Path:
    """A /proc with one process that is in those groups."""
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text(groups)
    (tmp_path / "proc" / "self" / "mountinfo").write_text(mounts)
    return tmp_path / "proc"


def directory(path: Path, controllers: str | None = None) -> Path:
    path.mkdir(parents=True)
    (path / "cgroup.procs").write_text("")
    if controllers is not None:
        (path / "cgroup.controllers").write_text(controllers)
    return path


def test_of_version_2_a_user_has_what_was_given_to_its_own_group(tmp_path: Path) -> None:
    own = directory(tmp_path / "fs" / "user.slice" / "mine.scope", "memory pids\n")
    mounts = f"30 25 0:26 / {tmp_path / 'fs'} rw - cgroup2 cgroup rw\n"
    proc = process(tmp_path, "0::/user.slice/mine.scope\n", mounts)
    expected = {"memory": own, "pids": own, "freezer": own}
    assert cgroup.delegated(proc) == (expected, True)
    # Once the manager has moved out of its own group's way, it is still the same one.
    directory(own / cgroup.HOST, "memory pids\n")
    (proc / "self" / "cgroup").write_text(f"0::/user.slice/mine.scope/{cgroup.HOST}\n")
    assert cgroup.delegated(proc) == (expected, True)


def test_of_version_1_a_user_has_the_hierarchies_in_which_its_group_is_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, cpu = directory(tmp_path / "memory" / "mine"), directory(tmp_path / "cpu")
    mounts = f"30 25 0:26 / {tmp_path / 'memory'} rw - cgroup cgroup rw,memory\n"
    mounts += f"31 25 0:27 / {tmp_path / 'cpu'} rw - cgroup cgroup rw,cpu,cpuacct\n"
    proc = process(tmp_path, "4:memory:/mine\n1:cpu,cpuacct:/\n0::/\n", mounts)
    assert cgroup.delegated(proc) == ({"memory": memory, "cpu": cpu}, False)
    monkeypatch.setattr(os, "access", lambda path, _: cpu not in (path, path.parent))
    assert cgroup.delegated(proc) == ({"memory": memory}, False)


def test_a_group_without_controllers_limits_nothing_and_fails_at_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(cgroup, "delegated", lambda: ({}, False))
    groups = Groups.find("owner")
    group = groups.make("engine", "1")
    assert group == Group(None, None, None, None, False)
    group.limit(128, 10)
    group.freeze()
    group.thaw()
    group.lift_cpu_limit()
    assert (group.doors, group.shown, group.out_of_memory_kills()) == ([], [], 0)
    group.remove()
    assert groups.engines() == set() and groups.clear("engine") == 0
