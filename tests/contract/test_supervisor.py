"""The bootstrap's supervisor as the first process of a PID namespace."""

from __future__ import annotations

import subprocess
import sys

AS_FIRST = """
import os
import signal
from bootstrap import settings
from bootstrap.supervisor import Supervisor

supervisor = Supervisor(settings.read({}, ["/bin/sleep", "1000"]))
there_before = os.posix_spawn("/bin/sleep", ["sleep", "1000"], {})
runtime = supervisor.spawn_runtime()
print("runtime beside what was there before")
dying = os.posix_spawn("/bin/sh", ["sh", "-c", "kill -STOP $$; sleep 1000"], {})
os.kill(runtime.pid, signal.SIGKILL)
supervisor.exited(*os.wait4(runtime.pid, 0))
supervisor.spawn_runtime()
try:
    os.kill(dying, 0)
except ProcessLookupError:
    print("gone")
"""


def test_a_runtime_starts_when_the_last_process_of_the_one_before_has_gone() -> None:
    command = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", AS_FIRST]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.splitlines() == ["runtime beside what was there before", "gone"]
