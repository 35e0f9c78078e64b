"""The names by which extensions listen for telemetry: sandbox.localdomain and sandbox are this very container."""

LINE = b"127.0.0.1\tsandbox.localdomain sandbox\n"
HOSTS = "/etc/hosts"


def name_ourselves(path: str = HOSTS) -> None:
    """Add the names to a container's hosts file, if it can be written and has none of them."""
    try:
        with open(path, "rb+", buffering=0) as hosts:
            known = hosts.read()
            if b"sandbox.localdomain" not in known:
                hosts.write(LINE if not known or known.endswith(b"\n") else b"\n" + LINE)
    except OSError:
        pass  # no such file, or not ours to write: then names are resolved as the image has it
