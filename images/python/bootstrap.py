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


def renew() -> None:
    """Have copies of one snapshot draw different random numbers; os.urandom, secrets and uuid4 do anyway."""
    for name, module in (("random", "random"), ("numpy.random", "numpy.random")):
        if name in sys.modules:
            sys.modules[module].seed(int.from_bytes(os.urandom(4), "big") if name != "random" else None)
    if "ssl" in sys.modules:
        sys.modules["ssl"].RAND_add(os.urandom(64), 64.0)
    if "tempfile" in sys.modules:
        sys.modules["tempfile"]._name_sequence = None


def renew_after_restore() -> None:
    """Before any hook of the function's own."""
    import snapshot_restore_py

    snapshot_restore_py.register_after_restore(renew)


if __name__ == "__main__":
    sys.path[:] = search_path(sys.path)
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
        renew_after_restore()
    awslambdaric.__main__.main([sys.argv[0], os.environ.get("_HANDLER", "")])
