"""What the log of a container says to whoever has just built its image, when init fails."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from bootstrap import hints, settings
from tests.protocol.emulator import RUNTIME, Start

IMPORT_ERROR = [["init-error", '{"errorType":"Runtime.ImportModuleError"}', "Runtime.ImportModuleError"], ["exit", 1]]


def hint_of(emulate: Start, command: list[str], **variables: str) -> str:
    """The line, which comes once however often init fails."""
    emulator = emulate(None, command, **variables)
    log = emulator.wait_for("rie: check")
    assert emulator.invoke({}).headers["x-amz-function-error"] == "Unhandled"
    lines = [line for line in emulator.log.splitlines() if line.startswith("rie: check")]
    assert len(lines) == 1, log
    return lines[0]


def not_imported(emulate: Start, task: Path) -> str:
    command = [sys.executable, str(RUNTIME), json.dumps(IMPORT_ERROR)]
    return hint_of(emulate, command, _HANDLER="app.handler", LAMBDA_TASK_ROOT=str(task))


def program(directory: Path, content: bytes, mode: int = 0o755) -> str:
    path = directory / "program"
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


def test_a_handler_whose_module_is_not_there(emulate: Start, tmp_path: Path) -> None:
    task = tmp_path / "task"
    task.mkdir()
    (task / "main.py").touch()
    assert not_imported(emulate, task) == (
        f"rie: check CMD and COPY: the handler is 'app.handler', but {task} has no module 'app'; it has main.py"
    )


def test_a_handler_whose_module_imports_what_is_not_there(emulate: Start, tmp_path: Path) -> None:
    (tmp_path / "app.py").touch(0o644)
    assert not_imported(emulate, tmp_path).startswith(f"rie: check its dependencies: {tmp_path}/app.py is there")


def test_a_module_that_the_functions_user_may_not_read(emulate: Start, tmp_path: Path) -> None:
    (tmp_path / "app.py").touch(0o600)
    assert not_imported(emulate, tmp_path).startswith("rie: check the permissions:")


def test_no_bootstrap_file(emulate: Start) -> None:
    log = emulate(None, ["app.handler"]).wait_for("rie: check")
    assert "rie: check CMD: 'app.handler' looks like a handler, but the image has no bootstrap file" in log


def test_a_program_that_is_not_there(emulate: Start) -> None:
    assert hint_of(emulate, ["/no/such"]) == "rie: check ENTRYPOINT and CMD: the image has no /no/such"


def test_a_program_that_may_not_be_executed(emulate: Start, tmp_path: Path) -> None:
    path = program(tmp_path, b"#!/bin/sh\n", 0o644)
    assert hint_of(emulate, [path]) == (
        f"rie: check its permissions: {path} may not be executed; in the Dockerfile: RUN chmod 755 {path}"
    )


@pytest.mark.parametrize(("machine", "name"), [(183, "aarch64"), (62, "x86_64"), (243, "ELF machine 243")])
def test_a_program_for_another_machine(emulate: Start, tmp_path: Path, machine: int, name: str) -> None:
    ours = os.uname().machine
    if name == ours:
        machine, name = 40, "armv7l"
    path = program(tmp_path, b"\x7fELF\2\1\1" + b"\0" * 9 + b"\2\0" + machine.to_bytes(2, "little") + b"\0" * 100)
    hint = hint_of(emulate, [path])
    assert f"check its architecture: {path} is for {name}, this is {ours}; build for --platform linux/" in hint


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"echo hello\n", "a script begins with its interpreter, as in #!/bin/sh"),
        (b"#!/no/such -x\n", "the image has no /no/such"),
        (b"#!/bin/sh\r\necho\r\n", "they are Windows' (CRLF)"),
    ],
)
def test_a_script_that_cannot_be_executed(emulate: Start, tmp_path: Path, content: bytes, said: str) -> None:
    assert said in hint_of(emulate, [program(tmp_path, content)])


def test_a_working_directory_that_is_not_there(emulate: Start) -> None:
    hint = hint_of(emulate, ["/bin/true"], RIE_WORKING_DIRECTORY="/no/such")
    assert hint == "rie: check WORKDIR: the function's user must be able to enter /no/such"


def test_a_program_that_is_no_runtime(emulate: Start) -> None:
    emulator = emulate([["sleep", 60]])
    assert "asked for no event within 10 s: check that it is a runtime" in emulator.wait_for("rie: ", 15)


@pytest.mark.parametrize(
    ("error_type", "fault", "said"),
    [
        ("Runtime.InvalidEntrypoint", "Error: Couldn't find valid bootstrap(s): [/a /b]", "the image names no command"),
        ("Runtime.HandlerNotFound", "", "its module has no 'handler'"),
        ("Runtime.MalformedHandlerName", "", "not of the form 'module.function'"),
        ("Runtime.UserCodeSyntaxError", "", "check the syntax"),
        ("Function.Unknown", "", ""),
    ],
)
def test_other_causes(error_type: str, fault: str, said: str) -> None:
    hint = hints.hint_for(error_type, fault, settings.read({}, ["python", "app.handler"]))
    assert said in hint
    assert bool(said) == bool(hint)
