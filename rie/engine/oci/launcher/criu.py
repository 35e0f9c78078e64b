"""criu in a sandbox: its files are opened where they are, and run where nothing of the host can be seen any more."""

import os

from bootstrap.records import Record

from . import kernel
from .netlink import Link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

KERNEL_FEATURES = "/run/criu.kdat"  # where criu keeps what it has found out of the kernel
SIGKILL = 9
LOOPBACK, HOST = 1, 32  # the index of lo in every network namespace; a prefix of one address
FAILED = 127
# There are the image's files where criu runs: no program, no configuration of a library may come from there.
ENVIRONMENT = {"PATH": "/nowhere", "GNUTLS_SYSTEM_PRIORITY_FILE": "/dev/null", "GNUTLS_NO_IMPLICIT_INIT": "1"}


class Command(Record):
    """What criu is to do, by paths of the host.

    `loader`, `libraries` and `program` are criu's own; `images` is the snapshot's directory, `log` the file for what it
    says; `features` a file with what it knows of this kernel, "" for none.
    """

    loader: str
    libraries: "list[str]"
    program: str
    arguments: "list[str]"
    images: str
    log: str
    features: str


class Opened(Record):
    """A command whose files are descriptors."""

    loader: int
    libraries: "list[int]"
    program: int
    arguments: "list[str]"
    images: int
    log: int
    nothing: int
    features: bytes


def open_up(command: Command) -> Opened:
    """Open all of it. Raises OSError."""
    loader, program, images, *libraries = [
        os.open(path, kernel.O_PATH) for path in (command.loader, command.program, command.images, *command.libraries)
    ]
    for descriptor in (loader, program, images, *libraries):
        os.set_inheritable(descriptor, True)
    log = os.open(command.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open("/dev/null", os.O_RDONLY)
    features = b""
    if command.features:
        with open(command.features, "rb") as file:
            features = file.read()
    return Opened(loader, libraries, program, command.arguments, images, log, nothing, features)


def leave_features(opened: Opened) -> None:
    """Where criu looks for what it knows of the kernel, in the sandbox. Raises OSError."""
    if opened.features:
        fd = os.open(KERNEL_FEATURES, os.O_WRONLY | os.O_CLOEXEC | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(fd, opened.features)
        finally:
            os.close(fd)


def become(opened: Opened) -> "NoReturn":
    """Be criu, in whatever namespaces we are. Raises OSError."""
    for target, source in ((0, opened.nothing), (1, opened.log), (2, opened.log)):
        os.dup2(source, target)
    search = ":".join(f"/proc/self/fd/{descriptor}" for descriptor in opened.libraries)
    command = ["criu", "--inhibit-cache", "--library-path", search, f"/proc/self/fd/{opened.program}"]
    # Plugins, too, are looked for where there are none, instead of where the image could have some.
    images = f"/proc/self/fd/{opened.images}"
    command += [*opened.arguments, "--images-dir", images, "--libdir", images]
    os.execve(f"/proc/self/fd/{opened.loader}", command, ENVIRONMENT)


class Restore:
    """An operation of a sandbox's first process: have criu make what a snapshot holds, beside what is still to do.

    criu is our child and has our namespaces and control groups: to enter them from outside would take 20 ms. It needs
    rights that we give up meanwhile; `wait` for it then. `address` is what the sandbox's was at the time of the
    snapshot, "" for none and where it is so again.
    """

    def __init__(self, opened: Opened, address: str) -> None:
        self._opened = opened
        self._address = address
        self._runner = 0

    def describe(self) -> str:
        """One line."""
        return f"criu {self._opened.arguments[0]}"

    def execute(self) -> None:
        """Begin it. Raises OSError."""
        leave_features(self._opened)
        self._runner = os.fork()
        if self._runner == 0:
            status = FAILED
            try:
                kernel.die_with_parent(SIGKILL)
                status = self._run() if self._address else become(self._opened)
            except OSError as error:
                os.write(self._opened.log, f"rie: {error}\n".encode())
            finally:
                os._exit(status)

    def wait(self) -> None:
        """Until it has ended. Raises OSError if it has failed."""
        status = os.waitpid(self._runner, 0)[1]
        if status != 0:
            raise OSError(f"criu ended with status {os.waitstatus_to_exitcode(status)}")

    def _run(self) -> int:
        # What has ended keeps its address of the time before, which has to be there for that long.
        link = Link()
        link.add_address(LOOPBACK, self._address, HOST)
        pid = os.fork()
        if pid == 0:
            try:
                kernel.die_with_parent(SIGKILL)
                become(self._opened)
            finally:
                os._exit(FAILED)
        status = os.waitpid(pid, 0)[1]
        link.remove_address(LOOPBACK, self._address, HOST)
        return os.waitstatus_to_exitcode(status) & 0xFF
