"""A runtime for the contract suite's images: no shebang, no library; run by the bundle's own interpreter.

Its argument is the function: those of rie.engine.stub_functions, and `probe`, which does what its event says.
"""

import _socket
import json
import os
import sys
import time

API = "/2018-06-01/runtime"


class Channel:
    """A keep-alive connection to the Runtime API."""

    def __init__(self):
        host, _, port = os.environ["AWS_LAMBDA_RUNTIME_API"].partition(":")
        self.sock = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        self.sock.connect((host, int(port)))

    def request(self, method, path, body=b""):
        head = f"{method} {API}{path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        self.sock.sendall(head.encode() + body)
        data = b""
        while b"\r\n\r\n" not in data:
            data += self.sock.recv(65536)
        head, _, body = data.partition(b"\r\n\r\n")
        headers = {}
        for line in head.decode().split("\r\n")[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        while len(body) < int(headers.get("content-length", 0)):
            body += self.sock.recv(65536)
        return headers, body


def sleep(event):
    time.sleep(event["seconds"])
    return event


def environment(event):
    return {"environment": dict(os.environ)}


def attempt(action):
    """None if it works, else the error's name."""
    try:
        action()
    except OSError as error:
        return error.strerror
    return None


def write(path, megabytes):
    block = b"x" * 1048576
    with open(path, "wb", buffering=0) as file:
        for _ in range(megabytes):
            if file.write(block) != len(block):
                raise OSError(28, "No space left on device")


def fork_until_refused(limit):
    children = []
    error = None
    for _ in range(limit):
        try:
            pid = os.fork()
        except OSError as failure:
            error = failure.strerror
            break
        if pid == 0:
            time.sleep(60)
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    return [len(children), error]


def open_until_refused(limit):
    opened = []
    try:
        for _ in range(limit):
            opened.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        return [len(opened), error.strerror]
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return [len(opened), None]


def read(path):
    with open(path) as file:
        return file.read()


def stat(path):
    found = os.stat(path)
    return {"mode": found.st_mode & 0o7777, "uid": found.st_uid}


def allocate(megabytes):
    return len(bytearray(b"x") * (megabytes * 1048576))


def connect(address):
    """None if somebody listens there, else why not."""
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    sock.settimeout(2)
    try:
        sock.connect((address[0], address[1]))
    except (OSError, TimeoutError) as error:
        return str(error.strerror or error)
    finally:
        sock.close()
    return None


def serve(port):
    """Listen on every address, in a process of its own."""
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    sock.bind(("0.0.0.0", port))
    sock.listen()
    if os.fork() == 0:
        while True:
            sock._accept()
    return port


def ticks(seconds):
    """How often a process of ours got to run in so many seconds."""
    ends_at = time.monotonic() + seconds
    count = 0
    while time.monotonic() < ends_at:
        time.sleep(0.01)
        count += 1
    return count


def hold(megabytes):
    """Keep memory for longer than any function may run."""
    block = bytearray(b"x") * (megabytes * 1048576)
    time.sleep(60)
    return len(block)


def hold_in_children(many):
    """So many processes, each the child of one that has ended, which hold so many megabytes each."""
    count, megabytes = many
    for _ in range(count):
        child = os.fork()
        if child == 0:
            if os.fork() == 0:
                hold(megabytes)
            os._exit(0)
        os.waitpid(child, 0)
    time.sleep(60)
    return count


def open_for_reading(path):
    with open(path, "rb") as file:
        file.read(1)


def limit(pid):
    import resource

    resource.prlimit(pid, resource.RLIMIT_NOFILE, (1, 1))


VERBS = {
    "attempt-read": lambda path: attempt(lambda: open_for_reading(path)),
    "attempt-limit": lambda pid: attempt(lambda: limit(pid)),
    "attempt-affinity": lambda pid: attempt(lambda: os.sched_setaffinity(pid, {0})),
    "attempt-priority": lambda pid: attempt(lambda: os.setpriority(os.PRIO_PROCESS, pid, 19)),
    "attempt-signal": lambda pid: attempt(lambda: os.kill(pid, 15)),
    "attempt-memfd": lambda _: attempt(lambda: os.memfd_create("x")),
    "list": lambda path: sorted(os.listdir(path)),
    "hold": hold,
    "hold-in-children": hold_in_children,
    "allocate": allocate,
    "attempt-write": lambda path: attempt(lambda: write(path, 0)),
    "connect": connect,
    "serve": serve,
    "ticks": ticks,
    "time": lambda _: time.time(),
    "attempt-raw": lambda _: attempt(lambda: _socket.socket(_socket.AF_INET, _socket.SOCK_RAW, 1)),
    "attempt-packet": lambda _: attempt(lambda: _socket.socket(_socket.AF_PACKET, _socket.SOCK_RAW, 0)),
    "attempt-kill": lambda pid: attempt(lambda: os.kill(pid, 0)),
    "processes": lambda _: sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
    "root": lambda _: sorted(os.listdir("/")),
    "hostname": lambda _: os.uname().nodename,
    "attempt-list": lambda path: attempt(lambda: os.listdir(path)),
    "exists": os.path.exists,
    "fill-tmp": lambda megabytes: attempt(lambda: write("/tmp/fill", megabytes)),
    "fork": fork_until_refused,
    "open": open_until_refused,
    "read": read,
    "spin": lambda seconds: spin(seconds),
    "stat": stat,
}


def spin(seconds):
    """How much CPU time one thread gets in so many seconds."""
    ends_at = time.monotonic() + seconds
    before = time.process_time()
    while time.monotonic() < ends_at:
        pass
    return time.process_time() - before


def probe(event):
    return {verb: VERBS[verb](argument) for verb, argument in event.items()}


FUNCTIONS = {"sleep": sleep, "environment": environment, "probe": probe}


def main(name):
    if name == "slow-init":
        time.sleep(float(os.environ.get("INIT_SECONDS") or 1.0))
    channel = Channel()
    while True:
        headers, body = channel.request("GET", "/invocation/next")
        path = f"/invocation/{headers['lambda-runtime-aws-request-id']}"
        if name == "fail":
            error = {"errorType": "ValueError", "errorMessage": "told to fail", "stackTrace": []}
            channel.request("POST", f"{path}/error", json.dumps(error).encode())
            continue
        if name == "talk":
            print(json.loads(body)["text"], flush=True)
        event = json.loads(body)
        answer = FUNCTIONS.get(name, lambda event: event)(event)
        channel.request("POST", f"{path}/response", json.dumps(answer).encode())


main(sys.argv[1])
