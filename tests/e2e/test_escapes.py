"""What a hostile function tries, on the daemonless engine; each is refused, and the next invocation is served."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.world import Deployed, Manager

Deploy = Callable[..., Deployed]

NEWUSER, NEWNS, NEWNET = 0x10000000, 0x00020000, 0x40000000
# x86_64 numbers (asm/unistd_64.h): what is tried, the call, its arguments.
CALLS: dict[str, tuple[int, list[Any]]] = {
    "mount a file system": (165, ["none", "/tmp", "tmpfs", 0, 0]),
    "mount over the bundle": (165, ["/tmp", "/opt/rie", 0, 4096, 0]),
    "unmount": (166, ["/proc", 2]),
    "open a mount tree": (428, [-100, "/", 1]),
    "open a file system": (430, ["tmpfs", 0]),
    "pivot the root": (155, ["/tmp", "/tmp"]),
    "change the root": (161, ["/tmp"]),
    "make a user namespace": (272, [NEWUSER]),
    "make a mount namespace": (272, [NEWNS]),
    "clone into a user namespace": (56, [NEWUSER | 17, 0, 0, 0, 0]),
    "clone into a network namespace": (56, [NEWNET | 17, 0, 0, 0, 0]),
    "clone3": (435, [0, 0]),
    "enter a namespace": (308, [0, 0]),
    "trace the bootstrap": (101, [16, 1, 0, 0]),
    "trace itself": (101, [0, 0, 0, 0]),
    "read the bootstrap's memory": (310, [1, 0, 0, 0, 0, 0]),
    "add a key": (248, ["user", "x", "y", 1, -4]),
    "list keys": (250, [6, -4, 0, 0, 0]),
    "load a BPF program": (321, [5, 0, 0]),
    "count the host's events": (298, [0, 0, -1, -1, 0]),
    "handle page faults": (323, [0]),
    "submit to io_uring": (425, [1, 0]),
    "load a module": (175, [0, 0, ""]),
    "boot another kernel": (246, [0, 0, 0, 0]),
    "reboot": (169, [0xFEE1DEAD, 672274793, 0x01234567, 0]),
    "set the clock": (227, [0, 0]),
    "name the machine": (170, ["host", 4]),
    "open a file by its handle": (304, [-100, 0, 0]),
    "swap": (167, ["/tmp/x", 0]),
    "read the kernel's log": (103, [3, 0, 0]),
    "make a device": (133, ["/tmp/sda", 0o60666, 0x800]),
    "become root": (105, [0]),
    "raise its limit of files": (160, [7, 0]),
    "a raw socket": (41, [2, 3, 1]),
    "a packet socket": (41, [17, 3, 768]),
    "a socket of virtual machines": (41, [40, 1, 0]),
    "a socket of the kernel's cryptography": (41, [38, 5, 0]),
    "kill the bootstrap": (62, [1, 9]),
    "a 32-bit personality": (135, [0x0800000 | 8]),
}
REFUSALS = ("EPERM", "ENOSYS", "EACCES", "EFAULT", "EAFNOSUPPORT", "ESRCH")


@pytest.fixture(scope="module")
def hostile(client: Any, image: str) -> Any:
    from tests.e2e.world import create

    function = create(client, image, MemorySize=512)
    yield function
    client.delete_function(FunctionName=function.name)


@pytest.mark.parametrize("what", CALLS)
def test_a_system_call_is_refused(hostile: Deployed, what: str) -> None:
    number, arguments = CALLS[what]
    answer = hostile.invoke({"verb": "call", "number": number, "arguments": arguments})
    assert answer.payload in REFUSALS, what


@pytest.mark.parametrize(
    "path",
    [
        *("/var/task/x", "/x", "/etc/passwd", "/usr/bin/python3", "/opt/rie/x", "/run/x", "/run/rie/x", "/dev/null2"),
        *("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/1/oom_score_adj", "/proc/self/uid_map"),
        *("/sys/kernel/x", "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/var/tmp/x", "/dev/shm/x"),
    ],
)
def test_nothing_outside_tmp_can_be_written(hostile: Deployed, path: str) -> None:
    assert hostile.invoke({"verb": "write", "path": path}).payload != "written"


def test_the_managers_files_environment_and_processes_cannot_be_seen(hostile: Deployed, manager: Manager) -> None:
    for path in (str(manager.data / "rie.db"), "/proc/1/environ", "/root/.docker/config.json", f"/proc/{os.getpid()}"):
        answer = hostile.invoke({"verb": "read", "path": path}).payload
        assert answer in ("No such file or directory", "Permission denied"), path
    assert hostile.invoke({"verb": "processes"}).payload[0] == 1
    assert len(hostile.invoke({"verb": "processes"}).payload) < 5
    variables = hostile.invoke({"verb": "describe"}).payload["variables"]
    assert not [name for name in variables if name.startswith(("RIE_", "DOCKER", "XDG_"))]


def test_environments_share_no_file_and_no_process(hostile: Deployed, client: Any, image: str, deploy: Deploy) -> None:
    other = deploy(MemorySize=512)
    hostile.invoke({"verb": "write", "path": "/tmp/mine"})
    pid = hostile.invoke({"verb": "spawn"}).payload
    seen = other.invoke({"verb": "describe"}).payload
    assert "mine" not in seen["tmp"]
    assert pid not in other.invoke({"verb": "processes"}).payload or pid < 10  # its own numbers begin at 1, too


def test_the_metadata_address_and_the_managers_port_cannot_be_reached(hostile: Deployed, manager: Manager) -> None:
    assert hostile.invoke({"verb": "connect", "host": "169.254.169.254", "port": 80}).payload is not None
    hosts = hostile.invoke({"verb": "read", "path": "/etc/hosts"}).payload
    gateway = f"{hosts.split()[-2].rpartition('.')[0]}.1"
    assert hostile.invoke({"verb": "connect", "host": gateway, "port": manager.port}).payload is not None


def test_a_fork_bomb_is_bounded_and_the_next_call_is_served(hostile: Deployed) -> None:
    answer = hostile.invoke({"verb": "fork", "most": 5_000})
    assert answer.error == "Unhandled"
    assert hostile.invoke({"a": 1}).payload == {"a": 1}
