"""What a figure depends on: the machine, its kernel, its Docker, and how busy it was."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path


def facts(docker: str) -> dict[str, str]:
    """Name → value, in the order to print them; `docker` is the client's path."""
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    return {
        "machine": f"{_cpu()}, {os.cpu_count()} cores, {_memory_gb():.1f} GB",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "docker": _docker(docker),
        "python": platform.python_version(),
        "load before": load,
    }


def _cpu() -> str:
    text = Path("/proc/cpuinfo").read_text()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def _docker(docker: str) -> str:
    command = [docker, "info", "--format", "{{.ServerVersion}}, {{.Driver}}, cgroup v{{.CgroupVersion}}"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "none"
