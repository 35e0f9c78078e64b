"""The launcher's decisions: the plan of a sandbox, and the system call filter run instruction by instruction."""

from __future__ import annotations

import errno
import struct
from functools import cache

import pytest

from rie.engine.oci.launcher import kernel, plan, seccomp, syscalls
from rie.engine.oci.launcher.operations import Bind, Capabilities, Given, Memory, Move, Overlay, Pivot, Seccomp

STAGE = plan.Stage("/s/root", "/s/processes", "/s/devices", "/s/skeleton", "/s/top", "/s/disk")
MACHINES = ("x86_64", "aarch64")
ALLOW, KILL = 0x7FFF0000, 0x80000000
# What must never be on the list, by x86_64's and arm64's number.
FORBIDDEN = {
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "userfaultfd": (323, 282),
    "init_module": (175, 105),
    "kexec_load": (246, 104),
    "reboot": (169, 142),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "fsopen": (430, 430),
    "io_uring_setup": (425, 425),
    "settimeofday": (164, 170),
    "swapon": (167, 224),
}


def ask(machine: str, number: int, *arguments: int, arch: int | None = None, **how: bool) -> int:
    """What the filter answers: the kernel's interpreter, as far as the program uses it."""
    values = [*arguments, *[0] * (6 - len(arguments))]
    arch = seccomp.AUDIT_ARCH[machine] if arch is None else arch
    data = struct.pack("=IIQ6Q", number & 0xFFFFFFFF, arch, 0, *(value & (1 << 64) - 1 for value in values))
    code = _code(machine, **how)
    at, accumulator = 0, 0
    while True:
        kind, yes, no, value = code[at]
        at += 1
        if kind == seccomp.LOAD:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif kind == seccomp.RETURN:
            return value
        elif kind == 0x05:  # jump
            at += value
        else:
            holds = {
                seccomp.JUMP_EQUAL: accumulator == value,
                seccomp.JUMP_GREATER: accumulator > value,
                seccomp.JUMP_SET: bool(accumulator & value),
            }[kind]
            at += yes if holds else no


@cache
def _code(machine: str, **how: bool) -> list[tuple[int, int, int, int]]:
    return list(struct.iter_unpack("=HBBI", seccomp.program(machine, **how)))


def refusal(number: int) -> int:
    """Fail with that errno."""
    return 0x00050000 | number


@pytest.mark.parametrize("machine", MACHINES)
def test_every_call_of_the_list_is_allowed_and_no_other(machine: str) -> None:
    allowed = set(syscalls.numbers(machine).values())
    ruled = set(seccomp.RULED[machine].values())
    for number in range(500):
        if number in ruled:
            continue
        answer = ask(machine, number)
        if number in allowed:
            assert answer == ALLOW, number
        else:
            assert answer == refusal(errno.ENOSYS if number > seccomp.NEWEST else errno.EPERM), number


@pytest.mark.parametrize("machine", MACHINES)
def test_what_leads_out_of_a_sandbox_is_refused(machine: str) -> None:
    for name, numbers in FORBIDDEN.items():
        assert name not in syscalls.numbers(machine)
        assert ask(machine, numbers[MACHINES.index(machine)]) == refusal(errno.EPERM), name


@pytest.mark.parametrize("machine", MACHINES)
def test_processes_and_threads_may_be_made_but_no_namespaces(machine: str) -> None:
    clone = seccomp.RULED[machine]["clone"]
    thread = 0x3D0F00  # what a C library asks for
    assert ask(machine, clone, 17) == ask(machine, clone, thread) == ALLOW
    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert ask(machine, clone, thread | flag) == refusal(errno.EPERM)
    assert ask(machine, seccomp.RULED[machine]["clone3"]) == refusal(errno.ENOSYS)


@pytest.mark.parametrize("machine", MACHINES)
def test_sockets_are_of_the_network_or_of_this_machine(machine: str) -> None:
    number = seccomp.RULED[machine]["socket"]
    for family in (1, 2, 10, 16):
        assert ask(machine, number, family) == ALLOW
    for family in (0, 3, 17, 29, 38, 40, 44):
        assert ask(machine, number, family) == refusal(errno.EAFNOSUPPORT)


@pytest.mark.parametrize("machine", MACHINES)
def test_calls_of_another_architecture_end_the_process(machine: str) -> None:
    assert ask(machine, 1, arch=0x40000003) == KILL  # i386
    if machine == "x86_64":
        assert ask(machine, 0x40000000 | 1) == KILL  # x32


def sandbox(**changes: object) -> plan.Sandbox:
    message = {
        "hostname": "name",
        "label": "sha256:1",
        "layers": ["/l/1", "/l/2"],
        "files": {"hosts": "x"},
        "bundle": "/b",
        "run": "/r",
        "has_disk": True,
        "tmp_mb": 512,
        "given": [],
        "groups": [["/g", "sys/fs/cgroup/memory"]],
        "open_files": 1024,
        "environment": {},
        "argv": [],
    }
    return plan.read({**message, **changes})


def operations(**changes: object) -> list[plan.Operation]:
    return plan.plan(sandbox(**changes), STAGE, kernel.filter_of(seccomp.program("x86_64")))


def test_the_topmost_layer_is_the_sandboxes_own_and_the_images_last_comes_next() -> None:
    overlay = next(operation for operation in operations() if isinstance(operation, Overlay))
    assert overlay.lowers == ("/s/top", "/s/skeleton", "/l/2", "/l/1")


def test_privileges_end_after_the_root_has_changed_and_the_filter_is_last() -> None:
    kinds = [type(operation) for operation in operations()]
    assert kinds.index(Pivot) < kinds.index(Capabilities) < kinds.index(Seccomp) == len(kinds) - 1


def test_everything_mounted_is_read_only_but_tmp_and_the_run_directory() -> None:
    for operation in operations():
        if isinstance(operation, Bind):
            assert operation.flags & kernel.MS_NOSUID
            assert bool(operation.flags & kernel.MS_RDONLY) == (operation.target != "/s/root/run/rie")


def test_tmp_is_the_disk_that_was_mounted_ahead_or_memory() -> None:
    assert Move("/s/disk", "/s/root/tmp") in operations()
    assert Memory("/s/root/tmp", "size=512m,mode=1777") in operations(has_disk=False)


def test_what_is_given_lies_below_the_bundle() -> None:
    planned = operations(given=[["/code", "/var/task"], ["/layers", "/opt"]])
    places = {type(operation).__name__ + getattr(operation, "target", ""): n for n, operation in enumerate(planned)}
    assert places["Given/var/task"] < places["Bind/s/root/opt/rie"]
    assert Overlay(("/s/skeleton/opt", "/layers"), "/s/root/opt", "overlay") in planned
    assert Given("/code", "/s/root", "/var/task") in planned


@pytest.mark.parametrize(
    "place", ["/", "/proc", "/dev/x", "/run", "/etc/ssl", "/opt/rie", "/opt/rie/lib", "/sys", "/tmp"]
)
def test_nothing_may_be_given_where_the_sandbox_has_its_own(place: str) -> None:
    with pytest.raises(ValueError, match="the sandbox has its own there"):
        operations(given=[["/x", place]])


def test_a_plan_reads_as_text() -> None:
    text = plan.describe(operations())
    assert "overlay 4 layers, read-only, at /s/root" in text
    assert "bind /b at /s/root/opt/rie (read-only, nosuid, nodev)" in text
    assert text.count("\n") == len(operations()) - 1
