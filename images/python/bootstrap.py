"""The first file of the Python runtime: search path as in AWS's base image, then the runtime client with $_HANDLER."""

import os
import sys

import awslambdaric.__main__

TASK_ROOT = os.environ.get("LAMBDA_TASK_ROOT", "/var/task")
LAYERS = ("/opt/python/lib/python3.11/site-packages", "/opt/python")


def search_path(present: list[str]) -> list[str]:
    """The function's own code first, then the layers', then what was there: the library and /var/runtime."""
    first = [TASK_ROOT, *(path for path in LAYERS if os.path.isdir(path))]  # noqa: PTH112 - pathlib costs start-up time
    return first + [path for path in present if path not in first]


if __name__ == "__main__":
    sys.path[:] = search_path(sys.path)
    awslambdaric.__main__.main([sys.argv[0], os.environ.get("_HANDLER", "")])
