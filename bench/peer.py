"""AWS's Runtime Interface Emulator, out of the wheel of aws-sam-cli, which carries it for both machines."""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from rie.errors import HostFault

VERSION = "1.170.0"  # pinned, so that figures of different days have the same peer
NAME = f"AWS's RIE (aws-sam-cli {VERSION})"
MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}


def obtain(directory: Path) -> Path:
    """The executable, kept in `directory`; fetched from PyPI (8 MB, with progress) when it is not there.

    Raises HostFault: another machine, no PyPI, or a wheel without it.
    """
    machine = MACHINES.get(platform.machine().lower())
    if machine is None:
        raise HostFault(f"cannot get AWS's RIE: there is none for {platform.machine()}")
    final = directory / f"aws-lambda-rie-{VERSION}-{machine}"
    if final.is_file():
        return final
    directory.mkdir(parents=True, exist_ok=True)
    print(f"{NAME}: fetching the wheel from PyPI (8 MB)", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix=".wheel-", dir=directory) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary", ":all:", "--dest", scratch, f"aws-sam-cli=={VERSION}"]
        if subprocess.run(command, stdout=sys.stderr, check=False).returncode:
            raise HostFault(f"cannot get AWS's RIE: pip could not download aws-sam-cli=={VERSION}")
        wheel = next(Path(scratch).glob("*.whl"))
        member = f"samcli/local/rapid/aws-lambda-rie-{machine}"
        with zipfile.ZipFile(wheel) as archive:
            if member not in archive.namelist():
                raise HostFault(f"cannot get AWS's RIE: {wheel.name} has no {member}")
            partial = Path(scratch, "rie")
            partial.write_bytes(archive.read(member))
        partial.chmod(0o755)
        partial.rename(final)
    return final
