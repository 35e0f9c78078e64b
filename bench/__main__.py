"""`python -m bench [NAME…] [--quick] [--json]`: measure, and print what was found."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable

from bench import api, emulator, events, first, keepalive, machine, oci, pull, report, snapstart
from bench.client import CallFailed
from bench.effort import Effort
from bench.figures import Report
from rie.errors import RieError
from scripts import images

BENCHMARKS: dict[str, Callable[[Effort], Report]] = {
    "emulator": emulator.run,
    "api": api.run,
    "events": events.run,
    "pull": pull.run,
    "first": first.run,
    "oci": oci.run,
    "snapstart": snapstart.run,
    "keepalive": keepalive.run,
}


def main() -> None:
    """Run the benchmarks that the arguments name, by default all; progress goes to standard error."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the figures that the README quotes.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; by default all")
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes; shows that it works")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"cannot measure {', '.join(unknown)}: the benchmarks are {', '.join(BENCHMARKS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is cleared away
    effort = Effort.QUICK if arguments.quick else Effort.FULL
    try:
        facts = machine.facts(images.docker()[0])
        reports = [BENCHMARKS[name](effort) for name in arguments.names or BENCHMARKS]
    except (RieError, CallFailed, OSError) as error:
        sys.exit(f"rie: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    print((report.as_json if arguments.json else report.as_text)(facts, reports))


if __name__ == "__main__":
    main()
