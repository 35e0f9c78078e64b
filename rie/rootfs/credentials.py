"""Credentials for registries: from the environment, Docker's configuration file, and its credential helpers."""

from __future__ import annotations

import base64
import binascii
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rie.errors import RegistryUnavailable
from rie.rootfs.reference import DEFAULT_HOST

ENV_USER = "RIE_REGISTRY_USER"
ENV_PASSWORD = "RIE_REGISTRY_PASSWORD"
ENV_HOST = "RIE_REGISTRY_HOST"
HELPER_TIMEOUT_S = 10.0
DOCKER_HUB_KEY = "https://index.docker.io/v1/"  # the key under which `docker login` stores Docker Hub's
HELPER_NOTHING = "credentials not found"  # what helpers print, with status 1, for a host they do not know


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user's name and secret."""

    user: str
    password: str = field(repr=False)


def find(host: str, environ: Mapping[str, str]) -> Credentials | None:
    """The credentials for a registry ("docker.io", "127.0.0.1:5000"), or None.

    1. RIE_REGISTRY_USER and RIE_REGISTRY_PASSWORD; for every host, or only for RIE_REGISTRY_HOST when that is set.
    2. `auths` of config.json in DOCKER_CONFIG or ~/.docker.
    3. The helper that config.json names for the host, or for all hosts.

    Raises RegistryUnavailable when the file or a helper can't be used: going on without would say "access denied".
    """
    only = environ.get(ENV_HOST)
    if environ.get(ENV_USER) and (not only or only == host):
        return Credentials(environ[ENV_USER], environ.get(ENV_PASSWORD, ""))
    path = _config_path(environ)
    config = _read(path, host)
    keys = _keys(host)
    auths = _table(config, "auths")
    for key in keys:
        found = _from_entry(auths.get(key), path, host)
        if found:
            return found
    helpers = _table(config, "credHelpers")
    for key in keys:
        name = helpers.get(key) or (config.get("credsStore") if key in auths else None)
        if isinstance(name, str) and name:
            return _from_helper(name, key, host, environ)
    return None


def _config_path(environ: Mapping[str, str]) -> Path:
    directory = environ.get("DOCKER_CONFIG")
    return (Path(directory) if directory else Path(environ.get("HOME") or Path.home()) / ".docker") / "config.json"


def _read(path: Path, host: str) -> dict[str, Any]:
    try:
        config = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise RegistryUnavailable(f"cannot find credentials for registry {host}: {path}: {error}") from error
    return config if isinstance(config, dict) else {}


def _table(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = config.get(name)
    return value if isinstance(value, dict) else {}


def _keys(host: str) -> tuple[str, ...]:
    """The keys under which Docker and its kin store a host's entry, the usual one first."""
    if host == DEFAULT_HOST:
        return DOCKER_HUB_KEY, "index.docker.io", "docker.io"
    return host, f"https://{host}", f"http://{host}", f"https://{host}/v1/", f"https://{host}/v2/"


def _from_entry(entry: object, path: Path, host: str) -> Credentials | None:
    if not isinstance(entry, dict):
        return None
    if isinstance(entry.get("username"), str) and isinstance(entry.get("password"), str):
        return Credentials(entry["username"], entry["password"])
    if not isinstance(entry.get("auth"), str) or not entry["auth"]:
        return None
    try:
        user, colon, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise RegistryUnavailable(f"cannot find credentials for registry {host}: `auth` in {path}: {error}") from error
    return Credentials(user, password.rstrip("\0")) if colon else None


def _from_helper(name: str, key: str, host: str, environ: Mapping[str, str]) -> Credentials | None:
    """Ask docker-credential-<name>; it reads a host and prints {"Username", "Secret"}."""
    command = f"docker-credential-{name}"
    try:
        done = subprocess.run(
            [command, "get"],
            input=key.encode(),
            capture_output=True,
            timeout=HELPER_TIMEOUT_S,
            env=dict(environ),
            check=False,
        )
        if done.returncode != 0:
            said = (done.stdout + done.stderr).decode(errors="replace").strip()
            if HELPER_NOTHING in said.lower():
                return None
            raise OSError(f"status {done.returncode}: {said[:200]}")
        answer = json.loads(done.stdout)
        return Credentials(str(answer["Username"]), str(answer["Secret"]))
    except (OSError, ValueError, KeyError, TypeError, subprocess.TimeoutExpired) as error:
        raise RegistryUnavailable(f"cannot find credentials for registry {host}: {command}: {error}") from error
