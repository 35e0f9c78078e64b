"""Watch mode: changed files restart the runtime, and nobody's invocation fails of it."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bootstrap.watch import first_change, look
from tests.protocol.emulator import RUNTIME, Emulator, Start

# A runtime whose answer is a file's content, as it was when the runtime began.
READS_ONCE = f"""
import json, os, sys
text = open(os.environ["LAMBDA_TASK_ROOT"] + "/app.txt").read()
steps = [["next"], ["sleep", 0.7 if text == "slow" else 0], ["response", text]] * 20
os.execv(sys.executable, [sys.executable, {str(RUNTIME)!r}, json.dumps(steps)])
"""


@pytest.fixture
def task(tmp_path: Path) -> Path:
    (tmp_path / "task" / "deep").mkdir(parents=True)
    (tmp_path / "task" / "app.txt").write_text("old")
    return tmp_path / "task"


def watching(emulate: Start, task: Path) -> Emulator:
    command = [sys.executable, "-c", READS_ONCE]
    return emulate(None, command, RIE_WATCH=str(task), LAMBDA_TASK_ROOT=str(task))


def test_the_next_invocation_runs_the_new_code(emulate: Start, task: Path) -> None:
    emulator = watching(emulate, task)
    assert emulator.invoke({}).body == b"old"
    (task / "app.txt").write_text("new")
    emulator.wait_for(f"rie: {task}/app.txt has changed")
    assert emulator.invoke({}).body == b"new"
    assert "Error" not in emulator.log
    assert "INIT_REPORT" not in emulator.log


def test_a_running_invocation_ends_with_the_code_that_it_began_with(emulate: Start, task: Path) -> None:
    (task / "app.txt").write_text("slow")
    emulator = watching(emulate, task)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(emulator.invoke, {})
        emulator.wait_for("START RequestId")
        (task / "app.txt").write_text("new")
        assert running.result().body == b"slow"
    emulator.wait_for("has changed")
    assert emulator.invoke({}).body == b"new"


def test_without_the_variable_files_may_change(emulate: Start, task: Path) -> None:
    emulator = emulate(None, [sys.executable, "-c", READS_ONCE], LAMBDA_TASK_ROOT=str(task))
    assert emulator.invoke({}).body == b"old"
    (task / "app.txt").write_text("new")
    assert emulator.invoke({}).body == b"old"


def test_a_directory_that_is_none_is_refused_at_start(emulate: Start) -> None:
    emulator = emulate([["loop"]], RIE_WATCH="/no/such")
    assert emulator.process.wait(5) == 2
    assert "cannot watch /no/such: it is no directory" in emulator.log


def test_a_change_is_seen_wherever_it_is(task: Path) -> None:
    before = look(str(task))
    (task / "deep" / "new.txt").touch()
    added = look(str(task))
    assert first_change(before, added) == f"{task}/deep/new.txt"
    assert first_change(added, before) == f"{task}/deep/new.txt"
    os.utime(task / "app.txt", ns=(0, 0))
    assert first_change(added, look(str(task))) == f"{task}/app.txt"
    assert first_change(added, added) == ""


def test_what_the_interpreter_and_git_write_is_no_code(task: Path) -> None:
    before = look(str(task))
    for name in ("__pycache__/a.pyc", ".git/index", "b.pyc"):
        (task / name).parent.mkdir(exist_ok=True)
        (task / name).touch()
    (task / "nowhere").symlink_to("/no/such")
    assert look(str(task)) == before
