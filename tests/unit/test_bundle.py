"""The bundle: complete, relocatable, reproducible, and built once however many ask."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rie import bundle
from rie.errors import HostFault

MAX_SIZE = 15_000_000  # what the manager may cost on the disk of a machine without anything
STAND_IN = """\
import os, sys
def main():
    import textwrap, socket
    print(textwrap.dedent("  up"), sys.argv[1:], os.environ.get("LC_CTYPE"))
    return 3
"""


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package in place of the bootstrap that says that it is up and ends with status 3."""
    return package(tmp_path_factory.mktemp("source") / "bootstrap", STAND_IN)


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory, stand_in: Path) -> Path:
    """A root file system that holds a bundle of the stand-in and nothing else."""
    root = tmp_path_factory.mktemp("machine")
    bundle.build(root / "opt" / "rie", stand_in)
    return root


def package(directory: Path, main: str) -> Path:
    directory.mkdir(parents=True)
    (directory / "__init__.py").write_text("")
    (directory / "__main__.py").write_text(main)
    return directory


def run_in(root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the bundle's entry point with `root` as the root directory."""
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    command = ["unshare", *as_root, f"--root={root}", "/opt/rie/bootstrap", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)


def test_a_bundle_runs_where_there_is_neither_python_nor_a_c_library(machine: Path) -> None:
    done = run_in(machine, "app.handler")
    assert (done.stdout, done.stderr, done.returncode) == ("up ['app.handler'] None\n", "", 3)


def test_a_locale_that_is_not_there_changes_nothing(machine: Path) -> None:
    done = run_in(machine, LANG="en_US.UTF-8")
    assert (done.stdout, done.stderr) == ("up [] None\n", "")


def test_the_functions_library_path_does_not_reach_the_interpreter(tmp_path: Path, stand_in: Path) -> None:
    bundle.build(tmp_path / "opt" / "rie", stand_in)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libc.so.6").write_text("not a library")
    assert run_in(tmp_path, LD_LIBRARY_PATH="/lib").returncode == 3


def test_the_real_bootstrap_starts_from_a_bundle(tmp_path: Path) -> None:
    bundle.build(tmp_path / "opt" / "rie")
    done = run_in(tmp_path, RIE_ADDRESS="nowhere")
    assert (done.returncode, done.stderr) == (2, "rie: cannot read an address: 'nowhere' is not host:port\n")


def test_the_bundle_of_the_real_bootstrap_is_small(tmp_path: Path) -> None:
    tree = bundle.build(tmp_path / "bundle")
    assert sum(path.stat().st_size for path in tree.rglob("*") if path.is_file()) <= MAX_SIZE


def test_the_same_input_gives_the_same_bytes(tmp_path: Path, machine: Path, stand_in: Path) -> None:
    again = bundle.build(tmp_path / "again", stand_in)
    assert bundle.digest(again) == bundle.digest(machine / "opt" / "rie")


def test_everyone_may_read_a_bundle_whatever_the_umask(tmp_path: Path, stand_in: Path) -> None:
    before = os.umask(0o077)
    try:
        tree = bundle.build(tmp_path / "bundle", stand_in)
    finally:
        os.umask(before)
    needed = {path: 0o5 if path.is_dir() else 0o4 for path in (tree, *tree.rglob("*"))}
    assert [path for path, bits in needed.items() if path.stat().st_mode & bits != bits] == []


def test_a_bundle_holds_no_sources(machine: Path) -> None:
    assert list(machine.rglob("*.py")) == []


def test_compiled_files_are_never_checked_against_sources(machine: Path) -> None:
    flags = {int.from_bytes(path.read_bytes()[4:8], "little") for path in machine.rglob("*.pyc")}
    assert flags == {0b01}  # PEP 552: hash-based, unchecked


def test_modules_that_are_imported_inside_functions_are_in_it(machine: Path) -> None:
    names = {path.name for path in machine.rglob("*.pyc")}
    assert {"textwrap.pyc", "socket.pyc", "selectors.pyc"} <= names


def test_modules_that_nobody_imports_are_not_in_it(machine: Path) -> None:
    names = {path.name for path in machine.rglob("*")}
    assert not {"asyncio", "http", "argparse.pyc", "tokenize.pyc"} & names


def test_ensure_builds_once(tmp_path: Path, stand_in: Path) -> None:
    first = bundle.ensure(tmp_path, stand_in)
    built_at = (first / "BUNDLE").stat().st_ctime_ns
    assert (bundle.ensure(tmp_path, stand_in), (first / "BUNDLE").stat().st_ctime_ns) == (first, built_at)


def test_other_sources_give_another_bundle(tmp_path: Path, stand_in: Path) -> None:
    other = package(tmp_path / "other" / "bootstrap", STAND_IN + "# changed\n")
    assert bundle.ensure(tmp_path / "cache", stand_in) != bundle.ensure(tmp_path / "cache", other)


def test_concurrent_callers_get_the_same_whole_bundle(tmp_path: Path, stand_in: Path) -> None:
    with ThreadPoolExecutor(4) as threads:
        paths = list(threads.map(lambda _: bundle.ensure(tmp_path, stand_in), range(4)))
    assert len(set(paths)) == 1
    assert [path.name for path in tmp_path.iterdir()] == [paths[0].name]
    assert bundle.is_bundle(paths[0])


def test_the_key_is_the_directorys_name(tmp_path: Path, stand_in: Path) -> None:
    path = bundle.ensure(tmp_path, stand_in)
    assert bundle.read_manifest(path)["key"] == path.name


def test_a_bundle_that_the_environment_names_is_taken_as_it_is(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIE_BUNDLE", str(machine / "opt" / "rie"))
    assert bundle.ensure() == machine / "opt" / "rie"


def test_what_the_environment_names_must_be_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIE_BUNDLE", str(tmp_path))
    with pytest.raises(HostFault, match="cannot use RIE_BUNDLE"):
        bundle.ensure()


def test_the_cache_is_in_the_users_home_by_default(
    tmp_path: Path, stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RIE_BUNDLE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert bundle.ensure(source=stand_in).parent == tmp_path / "rie" / "bundle"


def test_build_replaces_a_bundle(tmp_path: Path, machine: Path, stand_in: Path) -> None:
    target = tmp_path / "bundle"
    bundle.build(target, package(tmp_path / "other" / "bootstrap", "def main():\n    pass\n"))
    bundle.build(target, stand_in)
    assert bundle.digest(target) == bundle.digest(machine / "opt" / "rie")


def test_build_refuses_a_directory_with_something_else_in_it(tmp_path: Path, stand_in: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(HostFault, match="something else"):
        bundle.build(tmp_path, stand_in)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_bootstrap_that_cannot_be_imported_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    broken = package(tmp_path / "source" / "bootstrap", "import no_such_module\n")
    with pytest.raises(HostFault, match="no_such_module"):
        bundle.ensure(tmp_path / "cache", broken)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_package_without_a_main_module_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bootstrap").mkdir()
    with pytest.raises(HostFault, match="no __main__"):
        bundle.build(tmp_path / "bundle", tmp_path / "bootstrap")


def test_a_script_in_front_of_an_interpreter_is_passed_over(tmp_path: Path) -> None:
    shim = tmp_path / "python3"
    shim.write_text('#!/bin/sh\nexec python3 "$@"\n')
    shim.chmod(0o755)
    with pytest.raises(HostFault, match="no CPython"):
        bundle.find_interpreter([str(shim), str(tmp_path / "absent")])


def test_what_the_bootstrap_begins_with_comes_out_of_one_file(tmp_path: Path) -> None:
    tree = bundle.build(tmp_path / "opt" / "rie")
    for path in (tree / "lib" / "rie" / "bootstrap").glob("*.pyc"):
        path.unlink()
    done = run_in(tmp_path, RIE_ADDRESS="nowhere")
    assert (done.returncode, done.stderr) == (2, "rie: cannot read an address: 'nowhere' is not host:port\n")


def test_without_the_archives_reader_modules_are_found_one_by_one(tmp_path: Path, stand_in: Path) -> None:
    tree = bundle.build(tmp_path / "opt" / "rie", stand_in)
    assert not (tree / "lib" / "rie" / "bootstrap" / "archive.pyc").exists()
    assert run_in(tmp_path).returncode == 3
