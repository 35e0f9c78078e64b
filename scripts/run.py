"""The demo behind `make run`: images, a registry, the manager, an example pushed, deployed and invoked.

With a terminal the manager stays to be tried until Ctrl-C; without one, all that was started is stopped at the end.
$RIE_REGISTRY (host:port or host:port/path) names a registry to use instead of one of our own.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import boto3
from rich.console import Console

import images

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / "build" / "demo"
RUN = ROOT / "build" / "run"  # pid files, for `make stop`
HOST = "127.0.0.1"
REGISTRY_PORT = 5000
MANAGER_PORT = 9000
FUNCTION = "hello"
REGION = "us-east-1"
ROLE = "arn:aws:iam::123456789012:role/demo"
READY_WITHIN_S = 30.0
STOPPED_WITHIN_S = 30.0
REGISTRY_CONFIG = """\
version: 0.1
log: {{level: warn}}
storage: {{filesystem: {{rootdirectory: {directory}}}, delete: {{enabled: true}}}}
http: {{addr: "{address}"}}
"""

console = Console(highlight=False, markup=False, soft_wrap=True)


class DemoFailed(Exception):
    """A step did not work; the text says which and why."""


def main() -> None:
    """Run the demo; exit status 1 and one line of reason when a step fails."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    started = time.monotonic()
    try:
        with ExitStack() as stack:
            endpoint = _demonstrate(stack)
            console.print(f"\nDone in {time.monotonic() - started:.1f} s.", style="bold green")
            _say_what_next(endpoint)
            if sys.stdin.isatty():
                signal.pause()
    except KeyboardInterrupt:
        console.print("\nStopped.")
    except (DemoFailed, OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"cannot run the demo: {error}")


def _demonstrate(stack: ExitStack) -> str:
    """All the steps; the manager's URL. What was started ends with `stack`."""
    _title("Images")
    images.build(["python", "provided"])
    _title("Registry")
    registry = os.environ.get("RIE_REGISTRY") or stack.enter_context(_registry())
    reference = f"{registry}/{FUNCTION}:latest"
    with _step(f"built examples/hello and pushed it as {reference}"):
        _run([*images.docker(), "build", "--quiet", "--tag", reference, str(ROOT / "examples" / "hello")])
        _run([*images.docker(), "push", "--quiet", reference])
    _title("Manager")
    endpoint = stack.enter_context(_manager())
    client = boto3.client(
        "lambda",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id="demo",
        aws_secret_access_key="demo",
    )
    with _step(f"function {FUNCTION} is active"):
        _deploy(client, reference)
    for nth, what in enumerate(("first invocation, cold", "second invocation, warm"), 1):
        _title(what.capitalize())
        report = _invoke(client)
        if nth == 2 and "Init Duration" in report:
            raise DemoFailed("the second invocation was not warm")
    return endpoint


def _deploy(client: Any, reference: str) -> None:
    """Create the function, or give it the image that was just pushed."""
    try:
        client.create_function(
            FunctionName=FUNCTION,
            PackageType="Image",
            Code={"ImageUri": reference},
            Role=ROLE,
            MemorySize=256,
            Timeout=10,
        )
    except client.exceptions.ResourceConflictException:
        client.update_function_code(FunctionName=FUNCTION, ImageUri=reference)
        client.get_waiter("function_updated_v2").wait(FunctionName=FUNCTION, WaiterConfig={"Delay": 1})
    client.get_waiter("function_active_v2").wait(FunctionName=FUNCTION, WaiterConfig={"Delay": 1})


def _invoke(client: Any) -> str:
    """Invoke, print answer and log, and return the REPORT line."""
    began = time.monotonic()
    answer = client.invoke(FunctionName=FUNCTION, Payload=json.dumps({"name": "you"}), LogType="Tail")
    payload = answer["Payload"].read().decode()
    console.print(f"{payload}   ({(time.monotonic() - began) * 1e3:.0f} ms)", style="bold")
    log = base64.b64decode(answer.get("LogResult", "")).decode()
    for line in log.splitlines():
        console.print(f"  {line}", style="dim")
    if "FunctionError" in answer:
        raise DemoFailed(f"the function failed: {payload}")
    return next((line for line in log.splitlines() if line.startswith("REPORT")), "")


@contextmanager
def _registry() -> Iterator[str]:
    """Debian's docker-registry with its content under build/demo; yields host:port."""
    address = f"{HOST}:{_free_port(REGISTRY_PORT)}"
    STATE.mkdir(parents=True, exist_ok=True)
    config = STATE / "registry.yml"
    config.write_text(REGISTRY_CONFIG.format(directory=STATE / "registry", address=address))
    program = shutil.which("docker-registry") or "/usr/bin/docker-registry"
    with _started("docker-registry", [program, "serve", str(config)], address, f"a registry answers at {address}"):
        yield address


@contextmanager
def _manager() -> Iterator[str]:
    """`rie serve` with its state under build/demo; yields its URL."""
    port = _free_port(MANAGER_PORT)
    program = Path(sys.executable).parent / "rie"
    command = [str(program), "serve", "--host", HOST, "--port", str(port), "--data", str(STATE / "data")]
    with _started("rie", command, f"{HOST}:{port}", f"rie serve answers at http://{HOST}:{port}"):
        yield f"http://{HOST}:{port}"


@contextmanager
def _started(name: str, command: list[str], address: str, ready: str) -> Iterator[None]:
    """A process that answers HTTP at `address`, for as long as the context lasts."""
    RUN.mkdir(parents=True, exist_ok=True)
    log = RUN / f"{name}.log"
    pid_file = RUN / f"{name}.pid"
    # A session of its own: Ctrl-C is for us, who stop things in order.
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        pid_file.write_text(f"{process.pid}\n")
        with _step(ready):
            _wait_for(process, address, name, log)
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            console.print(f"{name} did not end within {STOPPED_WITHIN_S:.0f} s and is killed", style="yellow")
            process.kill()
            process.wait()
        pid_file.unlink(missing_ok=True)


def _wait_for(process: subprocess.Popen[bytes], address: str, name: str, log: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while not _answers(address):
        if process.poll() is not None or time.monotonic() > deadline:
            why = "has ended" if process.poll() is not None else f"does not answer within {READY_WITHIN_S:.0f} s"
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise DemoFailed(f"{name} {why}; the end of {log.relative_to(ROOT)}:\n{tail}")
        time.sleep(0.02)


def _answers(address: str) -> bool:
    """Whether anything that speaks HTTP listens there, whatever it says."""
    connection = http.client.HTTPConnection(address, timeout=5)
    try:
        connection.request("GET", "/")
        connection.getresponse()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def _free_port(preferred: int) -> int:
    """`preferred`, or any other port when that is taken."""
    for port in (preferred, 0):
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((HOST, port))
            except OSError:
                continue
            return int(sock.getsockname()[1])
    raise DemoFailed(f"no free port on {HOST}")


def _run(command: list[str]) -> None:
    """Run a command; its words are shown only when it fails."""
    done = subprocess.run(command, env=images.build_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise DemoFailed(
            f"{' '.join(command[:3])} ended with {done.returncode}: {(done.stderr or done.stdout).strip()}"
        )


@contextmanager
def _step(what: str) -> Iterator[None]:
    """Show that something is going on, and at the end that it is done and how long it took."""
    began = time.monotonic()
    with console.status(what):
        yield
    console.print(f"{what} ({time.monotonic() - began:.1f} s)")


def _title(text: str) -> None:
    console.print(f"\n{text}", style="bold cyan")


def _say_what_next(endpoint: str) -> None:
    keys = f"AWS_ENDPOINT_URL={endpoint} AWS_ACCESS_KEY_ID=demo AWS_SECRET_ACCESS_KEY=demo AWS_DEFAULT_REGION={REGION}"
    rie = Path(sys.executable).parent.relative_to(ROOT) / "rie" if ROOT in Path(sys.executable).parents else "rie"
    if sys.stdin.isatty():
        console.print("The manager runs until Ctrl-C. In another terminal:")
    else:
        console.print(
            "Everything is stopped again, since this is no terminal. `make run` in one leaves it running, to try:"
        )
    path = f"{endpoint}/2015-03-31/functions/{FUNCTION}/invocations"
    for line in (
        f"export {keys}",
        f"aws lambda invoke --function-name {FUNCTION} /dev/stdout",
        f'curl -d \'{{"name": "you"}}\' {path}',
        f"{rie} ps",
        f"{rie} logs {FUNCTION}",
    ):
        console.print(f"  {line}")


if __name__ == "__main__":
    main()
