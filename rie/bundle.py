"""Builds the tree that stands at /opt/rie in every sandbox: interpreter, loader, part of the library, bootstrap.

    bin/python3           a CPython of this host; its loader and its library path point into /opt/rie
    lib/                  that loader, and the shared libraries that the interpreter and its modules need
    lib/python3.X/        the modules of the standard library that the bootstrap imports, compiled, without sources
    lib/rie/bootstrap/    the bootstrap, compiled
    lib/rie/archive       what it imports at once, all in one file
    bootstrap             the entry point, a script run by bin/python3
    BUNDLE                the key, the hash of the bootstrap's sources, the interpreter and the machine, as JSON

It needs nothing of the image it stands in, neither Python nor a C library. The same input gives the same bytes.

    python -m rie.bundle DIRECTORY
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bootstrap.wire import BUNDLE
from rie.errors import HostFault

ENV_BUNDLE = "RIE_BUNDLE"  # the path of a bundle to use as it is
MANIFEST = "BUNDLE"
OLDEST_PYTHON = (3, 9)  # what bootstrap/ is written for
# Debian's first: it has no shared libpython and most modules built in, so little has to be copied.
INTERPRETERS = tuple(f"/usr/bin/python3.{minor}" for minor in (11, 13, 12, 10, 9))
# What the library or the interpreter imports only when called, so that importing the bootstrap doesn't show it.
BASIS = (
    *("os", "site", "warnings", "encodings.aliases", "encodings.utf_8", "encodings.ascii", "encodings.latin_1"),
    *("encodings.idna", "codecs", "io", "abc", "posixpath", "genericpath", "stat", "_collections_abc"),
)
MODIFIED_AT = 315_532_800  # 1980-01-01: the earliest time that every archive format can hold

ENTRY_SCRIPT = """\
#!{bundle}/bin/python3 -IS
import gc, marshal, sys

gc.disable()
sys.path[:] = ["{library}", "{library}/lib-dynload", "{bundle}/lib/rie"]
with open("{bundle}/lib/rie/archive", "rb", 0) as file:
    content = file.read()
places = marshal.loads(content)
if "bootstrap.archive" in places:
    scope = {{"__name__": "bootstrap.archive"}}
    exec(marshal.loads(content[len(content) - places.pop("bootstrap.archive") :]), scope)
    scope["install"](content, places, "bootstrap", "{bundle}/lib/rie/bootstrap")
del content, places
from bootstrap.__main__ import main

sys.exit(main())
"""

# Both run in the chosen interpreter with -I -S. PROBE imports only `os` itself (first, because the modules that `os`
# is made of can't be imported before it), or it would find itself: it prints [(module, file, is it a package), …] of
# all that comes in with argv's modules; those of the library may be absent.
PROBE = """\
import os, sys
root, own, library = sys.argv[1:]
sys.path.append(root)
sys.dont_write_bytecode = True
for name in own.split():
    __import__(name)
for name in library.split():
    try:
        __import__(name)
    except ImportError:
        pass
find = next(finder for finder in sys.meta_path if finder.__name__ == "PathFinder").find_spec
found = []
for name in sorted(sys.modules):
    parent = name.rpartition(".")[0]
    path = getattr(sys.modules.get(parent), "__path__", None) if parent else sys.path[:-1]
    spec = find(name, path) if path is not None and name.split(".")[0] not in ("__main__", "bootstrap") else None
    if spec is not None and spec.origin:
        found.append((name, spec.origin, spec.submodule_search_locations is not None))
print(found)
"""
# Without docstrings and assertions, which take half a megabyte of memory.
COMPILE = """\
import json, py_compile, sys
for source, target, shown in json.load(sys.stdin):
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(source, cfile=target, dfile=shown, doraise=True, optimize=2, invalidation_mode=mode)
"""
# The compiled modules of the package in argv's directory that importing its __main__ imports, in one file.
ARCHIVE = """\
import marshal, os, sys
root, target = sys.argv[1:]
sys.path.insert(0, root)
sys.dont_write_bytecode = True
__import__("bootstrap.__main__")
names = {}
for name in sorted(sys.modules):
    if name.split(".")[0] == "bootstrap":
        path = name.replace(".", "/") + ("/__init__" if name == "bootstrap" else "")
        names[name] = f"{root}/{path}.pyc"
if os.path.exists(f"{root}/bootstrap/archive.pyc"):
    names["bootstrap.archive"] = f"{root}/bootstrap/archive.pyc"
places, content = {}, b""
for name, path in names.items():
    with open(path, "rb") as file:
        content = file.read()[16:] + content  # less the header of a .pyc
        places[name] = len(content)
with open(target, "wb") as file:
    file.write(marshal.dumps(places) + content)
"""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A CPython of this host: its executable, (major, minor), and `sys.version` whole."""

    path: Path
    version: tuple[int, int]
    banner: str

    @property
    def library(self) -> str:
        """Where its standard library stands within a bundle, relative to the bundle."""
        return f"lib/python{self.version[0]}.{self.version[1]}"


def build(directory: Path, source: Path | None = None) -> Path:
    """Build a bundle at `directory`, in place of a bundle that is there; returns `directory`.

    `source` is the directory of the package `bootstrap`, by default the installed one. It is built beside and renamed,
    so nobody sees half a bundle. Raises HostFault: no interpreter, no patchelf, a module that can't be imported, or
    something at `directory` that is no bundle.
    """
    directory = directory.absolute()
    if directory.exists() and not is_bundle(directory) and any(directory.iterdir()):
        raise HostFault(f"cannot build the bundle at {directory}: the directory has something else in it")
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{directory.name}-", dir=directory.parent) as scratch:
        tree = Path(scratch, "tree")
        _assemble(tree, _source(source), find_interpreter(), Path(scratch))
        if directory.exists():
            directory.rename(Path(scratch, "old"))
        tree.rename(directory)
    return directory


def ensure(directory: Path | None = None, source: Path | None = None) -> Path:
    """The bundle for the bootstrap's present sources, built when there is none yet; safe with concurrent callers.

    In this order: $RIE_BUNDLE as it is; /opt/rie, if it was built from the same sources; `directory`/KEY, where
    `directory` is ~/.cache/rie/bundle by default. When `directory` is given, only that is looked at.
    Raises HostFault as `build` does, and when $RIE_BUNDLE is no bundle.
    """
    source = _source(source)
    if directory is None:
        given = os.environ.get(ENV_BUNDLE)
        if given:
            if not is_bundle(Path(given)):
                raise HostFault(f"cannot use {ENV_BUNDLE}={given}: no bundle is there")
            return Path(given)
        if is_bundle(Path(BUNDLE)) and read_manifest(Path(BUNDLE)).get("sources") == _digest_of_sources(source):
            return Path(BUNDLE)
        directory = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "rie", "bundle")
    interpreter = find_interpreter()
    final = directory.absolute() / _key(source, interpreter)
    if is_bundle(final):
        return final
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=directory) as scratch:
        tree = Path(scratch, "tree")
        _assemble(tree, source, interpreter, Path(scratch))
        try:
            tree.rename(final)
        except OSError:
            if not is_bundle(final):  # it is there when another caller was quicker, and theirs is as good as ours
                raise
    return final


def is_bundle(directory: Path) -> bool:
    """Whether a whole bundle is at `directory`."""
    return all((directory / name).is_file() for name in (MANIFEST, "bootstrap", "bin/python3"))


def read_manifest(directory: Path) -> dict[str, Any]:
    """The manifest of the bundle at `directory`: key, sources, python, machine."""
    manifest: dict[str, Any] = json.loads((directory / MANIFEST).read_text())
    return manifest


def digest(directory: Path) -> str:
    """sha256 (hex) of a bundle's names, modes and contents."""
    total = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        content = b"" if path.is_dir() else path.read_bytes()
        head = f"{path.relative_to(directory)}\0{path.stat().st_mode:o}\0{len(content)}\0"
        total.update(head.encode() + content)
    return total.hexdigest()


def find_interpreter(candidates: Iterable[str] = (*INTERPRETERS, sys.executable)) -> Interpreter:
    """The first CPython >= 3.9 among `candidates` that is a program and not a script in front of one.

    Raises HostFault.
    """
    tried = []
    for candidate in candidates:
        path = Path(candidate).resolve()
        tried.append(str(path))
        if not path.is_file():
            continue
        with path.open("rb") as file:
            if file.read(4) != b"\x7fELF":
                continue
        code = "import sys; print(sys.implementation.name, *sys.version_info[:2]); print(sys.version)"
        head, _, banner = _run([str(path), "-I", "-S", "-c", code]).partition("\n")
        name, major, minor = head.split()
        if name == "cpython" and (int(major), int(minor)) >= OLDEST_PYTHON:
            return Interpreter(path, (int(major), int(minor)), banner.strip())
    raise HostFault(f"cannot build the bundle: no CPython >= 3.9 among {', '.join(tried)}")


def _assemble(tree: Path, source: Path, interpreter: Interpreter, scratch: Path) -> None:
    """Make the whole bundle at `tree`, with `scratch` for what is needed on the way."""
    staged = scratch / "source"
    shutil.copytree(source, staged / "bootstrap", ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    modules = _library_modules(interpreter, staged)
    to_compile = []
    extensions = []
    for name, origin, is_package in modules:
        if origin.endswith(".py"):
            place = f"{interpreter.library}/{name.replace('.', '/')}{'/__init__' if is_package else ''}"
            to_compile.append((origin, str(tree / f"{place}.pyc"), f"{BUNDLE}/{place}.py"))
        else:
            extensions.append(_copy(Path(origin), tree / interpreter.library / "lib-dynload" / Path(origin).name))
    (tree / interpreter.library / "lib-dynload").mkdir(parents=True, exist_ok=True)  # a landmark of the start-up
    for path in sorted(staged.rglob("*.py")):
        place = f"lib/rie/{path.relative_to(staged)}"
        to_compile.append((str(path), str(tree / f"{place}c"), f"{BUNDLE}/{place}"))
    _run([str(interpreter.path), "-I", "-S", "-c", COMPILE], stdin=json.dumps(to_compile))
    ours = tree / "lib" / "rie"
    _run([str(interpreter.path), "-I", "-S", "-c", ARCHIVE, str(ours), str(ours / "archive")])
    _copy_program(interpreter.path, tree, extensions)
    entry = ENTRY_SCRIPT.format(bundle=BUNDLE, library=f"{BUNDLE}/{interpreter.library}")
    (tree / "bootstrap").write_text(entry)
    (tree / MANIFEST).write_text(json.dumps(_manifest(source, interpreter), indent=1, sort_keys=True) + "\n")
    _settle(tree)


def _library_modules(interpreter: Interpreter, staged: Path) -> list[tuple[str, str, bool]]:
    """(name, file, is a package) of every library module that the bootstrap in `staged` imports, sooner or later."""
    own, library = [], set(BASIS)
    for path in sorted(staged.rglob("*.py")):
        own.append(".".join(path.relative_to(staged).with_suffix("").parts).removesuffix(".__init__"))
        for node in ast.walk(ast.parse(path.read_text(), str(path))):  # imports inside functions too
            if isinstance(node, ast.Import):
                library.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                library.update((node.module, *(f"{node.module}.{alias.name}" for alias in node.names)))
    if "bootstrap.__main__" not in own:
        raise HostFault(f"cannot build the bundle: the package of the bootstrap has no __main__.py, only {own}")
    theirs = sorted(name for name in library if name.split(".")[0] not in ("bootstrap", "__main__"))
    printed = _run([str(interpreter.path), "-I", "-S", "-c", PROBE, str(staged), " ".join(own), " ".join(theirs)])
    found: list[tuple[str, str, bool]] = ast.literal_eval(printed)
    return found


def _copy_program(program: Path, tree: Path, extensions: list[Path]) -> None:
    """Copy the interpreter, its loader and the libraries of both, and point it to where they will stand."""
    patchelf = _patchelf()
    loader = Path(_run([patchelf, "--print-interpreter", str(program)]).strip())
    for binary in (program, *extensions):
        for line in _run([str(loader), "--list", str(binary)]).splitlines():
            name, arrow, where = line.strip().partition(" => ")
            if arrow and where.startswith("/"):
                _copy(Path(where.split(" (")[0]), tree / "lib" / Path(name).name)
            elif arrow:
                raise HostFault(f"cannot build the bundle: {binary} needs {name}, which is {where}")
    _copy(loader, tree / "lib" / loader.name)
    executable = _copy(program, tree / "bin" / "python3")
    # RPATH is looked at before LD_LIBRARY_PATH, which names the image's libraries; RUNPATH, the default, after it.
    place = f"{BUNDLE}/lib"
    _run([patchelf, "--set-interpreter", f"{place}/{loader.name}", str(executable)])
    _run([patchelf, "--force-rpath", "--set-rpath", place, str(executable)])


def _settle(tree: Path) -> None:
    """Give every file the mode and time that the same tree always has; all may read, since root has no override."""
    runnable = {tree / "bootstrap", tree / "bin" / "python3", *(tree / "lib").glob("ld-*")}
    for path in sorted(tree.rglob("*"), reverse=True):  # children before their directory, whose time they change
        path.chmod(0o755 if path.is_dir() or path in runnable else 0o644)
        os.utime(path, (MODIFIED_AT, MODIFIED_AT))
    tree.chmod(0o755)
    os.utime(tree, (MODIFIED_AT, MODIFIED_AT))


def _source(source: Path | None) -> Path:
    if source is not None:
        return source.absolute()
    import bootstrap

    return Path(bootstrap.__path__[0])


def _digest_of_sources(source: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(source.rglob("*.py")):
        content = path.read_bytes()
        total.update(f"{path.relative_to(source)}\0{len(content)}\0".encode() + content)
    return total.hexdigest()


def _key(source: Path, interpreter: Interpreter) -> str:
    """A short hash of all that decides what the bundle holds: the sources, the interpreter, and how it is built."""
    parts = (_digest_of_sources(source), interpreter.banner, platform.machine(), Path(__file__).read_text())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _manifest(source: Path, interpreter: Interpreter) -> Mapping[str, str]:
    return {
        "key": _key(source, interpreter),
        "sources": _digest_of_sources(source),
        "python": interpreter.banner,
        "machine": platform.machine(),
    }


def _patchelf() -> str:
    """The patchelf that came with this package's dependencies, or any on the PATH."""
    beside = Path(sysconfig.get_path("scripts"), "patchelf")
    found = str(beside) if beside.is_file() else shutil.which("patchelf")
    if found is None:
        raise HostFault(f"cannot build the bundle: no patchelf, neither {beside} nor on the PATH")
    return found


def _copy(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o755)
    return target


def _run(command: list[str], stdin: str = "") -> str:
    """The output of a command; none of our environment (PYTHON*, LD_*) reaches it. Raises HostFault with its words."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, input=stdin, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-2000:]
        raise HostFault(f"cannot build the bundle: {command[0]} ended with {done.returncode}: {said}")
    return done.stdout


def main() -> None:
    """Build the bundle at the directory that is the only argument."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m rie.bundle DIRECTORY")
    directory = build(Path(sys.argv[1]))
    size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    print(f"{directory}: {size / 1e6:.1f} MB, {read_manifest(directory)['key']}")


if __name__ == "__main__":
    main()
