"""One plain line on what to check when init has failed: for the person who has just built the image."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .settings import Settings

MODULES = (".py", ".js", ".mjs", ".cjs", "/__init__.py")
LISTED = 8  # names of a directory
# e_machine of the ELF header → what the kernel and `docker build --platform` call it.
MACHINES = {3: ("i686", "386"), 40: ("armv7l", "arm"), 62: ("x86_64", "amd64"), 183: ("aarch64", "arm64")}
BEFORE_THE_COLON = "fork/exec "


def hint_for(error_type: str, fault: str, settings: "Settings") -> str:
    """What to check after an init that ended with `error_type`, of which `fault` was logged; empty if unknown."""
    if error_type == "Sandbox.Timedout":
        return _silent(settings)
    if error_type == "Runtime.InvalidEntrypoint":
        return _not_started(fault, settings)
    if error_type == "Runtime.InvalidWorkingDir":
        return f"check WORKDIR: the function's user must be able to enter {settings.working_directory}"
    handler = settings.variables["_HANDLER"]
    if error_type == "Runtime.ImportModuleError":
        return _not_imported(handler, settings)
    if error_type == "Runtime.HandlerNotFound":
        name = handler.rpartition(".")[2]
        return f"check CMD: the handler is {handler!r}, and its module has no {name!r}"
    if error_type == "Runtime.MalformedHandlerName":
        return f"check CMD: the handler is {handler!r}, not of the form 'module.function'"
    if error_type == "Runtime.UserCodeSyntaxError":
        return f"check the syntax of the module of the handler {handler!r}, at the line named above"
    return ""


def _silent(settings: "Settings") -> str:
    name = " ".join(settings.command[:4]) or "the bootstrap file"
    return (
        f"{name} asked for no event within 10 s: check that it is a runtime, which asks the Runtime API for events; "
        "a slow start is begun again by the next invocation"
    )


def _not_imported(handler: str, settings: "Settings") -> str:
    """Either the file is not where it should be, or something that it imports isn't."""
    root = settings.variables["LAMBDA_TASK_ROOT"]
    module = handler.rpartition(".")[0]
    for stem in dict.fromkeys((module, module.replace(".", "/"))):
        for ending in MODULES:
            path = f"{root}/{stem}{ending}"
            if os.path.isfile(path):
                if not os.stat(path).st_mode & 0o004:
                    return f"check the permissions: {path} is there, but the function's user may not read it"
                return f"check its dependencies: {path} is there, but something that it imports is not; see above"
    return f"check CMD and COPY: the handler is {handler!r}, but {root} has no module {module!r}; {_listing(root)}"


def _listing(directory: str) -> str:
    try:
        names = sorted(os.listdir(directory))
    except OSError as error:
        return f"{directory}: {(error.strerror or str(error)).lower()}"
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"it has {', '.join(names[:LISTED])}{more}" if names else "it is empty"


def _not_started(fault: str, settings: "Settings") -> str:
    """From the message of what could not be executed, and the file itself."""
    if "valid bootstrap" in fault:
        return "check CMD and COPY: the image names no command, and has no bootstrap file in the places named above"
    program, _, reason = fault.partition("\n")[0].partition(BEFORE_THE_COLON)[2].rpartition(": ")
    path = program if "/" in program else _found(program, settings)
    if reason == "permission denied":
        if path and os.path.isfile(path) and not os.stat(path).st_mode & 0o001:
            return f"check its permissions: {path} may not be executed; in the Dockerfile: RUN chmod 755 {path}"
        return (
            f"check the permissions of {program} and of the directories above it, which the function's user must enter"
        )
    head = _head(path)
    if reason == "exec format error":
        return _wrong_format(program, head)
    if reason == "no such file or directory" and head:
        first = head.partition(b"\n")[0]
        if first.startswith(b"#!"):
            name = first[2:].strip().decode("utf-8", "replace")
            if first.endswith(b"\r"):
                return f"check the line ends of {program}: they are Windows' (CRLF), so that no {name!r} + CR is found"
            return f"check the first line of {program}: the image has no {name.split(' ')[0]}"
        return f"check what {program} was linked against: the image lacks its loader (glibc and musl differ)"
    if "/" not in program and "." in program:
        return f"check CMD: {program!r} looks like a handler, but the image has no bootstrap file that could run it"
    return f"check ENTRYPOINT and CMD: the image has no {program}"


def _found(program: str, settings: "Settings") -> str:
    places = settings.variables.get("PATH", "").split(":")
    return next((f"{place}/{program}" for place in places if os.path.isfile(f"{place}/{program}")), "")


def _head(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(256)
    except OSError:
        return b""


def _wrong_format(program: str, head: bytes) -> str:
    if head[:4] != b"\x7fELF":
        return f"check the first line of {program}: a script begins with its interpreter, as in #!/bin/sh"
    number = int.from_bytes(head[18:20], "big" if head[5:6] == b"\2" else "little")
    theirs = MACHINES.get(number, (f"ELF machine {number}", ""))[0]
    ours = os.uname().machine
    platform = next((name for machine, name in MACHINES.values() if machine == ours), ours)
    return f"check its architecture: {program} is for {theirs}, this is {ours}; build for --platform linux/{platform}"
