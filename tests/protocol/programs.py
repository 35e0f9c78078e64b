"""Scripted programs for the extensions directory of an emulator."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.protocol.emulator import ROOT

EXTENSION = ROOT / "tests" / "functions" / "extension.py"
Install = Callable[..., dict[str, str]]


@pytest.fixture
def install(tmp_path: Path) -> Install:
    """Put scripted extensions into a directory of their own; the variables that point the bootstrap there."""

    def put(**scripts: list[Any]) -> dict[str, str]:
        directory = tmp_path / "extensions"
        directory.mkdir()
        scripted = tmp_path / "scripted.py"
        shutil.copy(EXTENSION, scripted)
        for name, script in scripts.items():
            program = directory / name
            # The script lies beside the program in a directory, which is no program.
            program.write_text(
                f"#!/bin/sh\nexec {sys.executable} -c 'import sys; sys.argv[0] = sys.argv[1]; "
                f'exec(compile(open("{scripted}").read(), "extension", "exec"))\' {tmp_path}/scripts/{name}\n'
            )
            program.chmod(0o755)
            (tmp_path / "scripts").mkdir(exist_ok=True)
            (tmp_path / "scripts" / f"{name}.json").write_text(json.dumps(script))
        return {"RIE_EXTENSIONS": str(directory)}

    return put
