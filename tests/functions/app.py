"""The one function of the tests: an unmodified Lambda handler that does what the event's verb says."""

import json
import os
import subprocess
import sys
import time
import uuid

ENVIRONMENT = uuid.uuid4().hex
STATE = {"invocations": 0}
BLOCK = b"x" * (1 << 20)  # no random numbers: at the share of a CPU that 128 MB have they take longer than the writing
if os.environ.get("INIT_SLEEP"):
    time.sleep(float(os.environ["INIT_SLEEP"]))
if os.environ.get("INIT_FAIL"):
    raise RuntimeError("this init fails")


def handler(event, context):
    STATE["invocations"] += 1
    verb = event.get("verb", "echo")
    return VERBS[verb](event, context)


def echo(event, context):
    return event


def describe(event, context):
    return {
        "environment": ENVIRONMENT,
        "invocations": STATE["invocations"],
        "requestId": context.aws_request_id,
        "arn": context.invoked_function_arn,
        "function": context.function_name,
        "version": context.function_version,
        "memory": context.memory_limit_in_mb,
        "logGroup": context.log_group_name,
        "logStream": context.log_stream_name,
        "remainingMs": context.get_remaining_time_in_millis(),
        "uid": os.getuid(),
        "gid": os.getgid(),
        "cwd": os.getcwd(),
        "variables": dict(os.environ),
        "tmp": sorted(os.listdir("/tmp")),
        "capabilities": _status("CapEff"),
        "noNewPrivileges": _status("NoNewPrivs"),
        "openFiles": _limit(),
    }


def sleep(event, context):
    started = time.time()
    time.sleep(event["seconds"])
    return {"environment": ENVIRONMENT, "started": started, "ended": time.time()}


def fail(event, context):
    raise ValueError(event.get("message", "boom"))


def end(event, context):
    os._exit(event.get("status", 0))


def wait(event, context):
    """Until somebody makes the file /tmp/go; /tmp/waiting is there meanwhile."""
    open("/tmp/waiting", "w").close()
    while not os.path.exists("/tmp/go"):
        time.sleep(0.02)
    return {"environment": ENVIRONMENT}


def allocate(event, context):
    blocks = [bytearray(BLOCK) for _ in range(event["mb"])]
    return len(blocks)


def fill(event, context):
    """Write to a file in /tmp, after what it has, until it is full; the error is the function's own."""
    with open("/tmp/full", "ab") as file:
        for _ in range(event["mb"]):
            file.write(BLOCK)
    return os.path.getsize("/tmp/full")


def fork(event, context):
    """Start processes without end."""
    children = 0
    while True:
        if os.fork() == 0:
            while True:
                time.sleep(60)
        children += 1
        if children >= event.get("most", 1_000_000):
            return children


def spawn(event, context):
    """Leave a process behind that has left the group."""
    process = subprocess.Popen(["/bin/sleep", "1000"], start_new_session=True)
    return process.pid


def processes(event, context):
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def write(event, context):
    """Try to write somewhere."""
    try:
        with open(event["path"], "w") as file:
            file.write("x")
    except OSError as error:
        return error.strerror
    return "written"


def read(event, context):
    try:
        with open(event["path"]) as file:
            return file.read(100_000)
    except OSError as error:
        return error.strerror


def log(event, context):
    for number in range(event.get("lines", 1)):
        print(event.get("text", "line") + str(number))
    sys.stdout.write(event.get("rest", ""))
    sys.stdout.flush()


def call(event, context):
    """Make a system call; the name of its error, or None."""
    import ctypes
    import errno

    libc = ctypes.CDLL(None, use_errno=True)
    arguments = [ctypes.c_long(a) if isinstance(a, int) else ctypes.c_char_p(a.encode()) for a in event["arguments"]]
    result = libc.syscall(ctypes.c_long(event["number"]), *arguments)
    return errno.errorcode[ctypes.get_errno()] if result == -1 else None


def connect(event, context):
    """Why nobody answers at an address, or None."""
    import socket

    try:
        socket.create_connection((event["host"], event["port"]), timeout=2).close()
    except OSError as error:
        return str(error)
    return None


def listen(event, context):
    """Take connections on a port from now on; the own address."""
    import socket

    STATE["listener"] = socket.create_server(("0.0.0.0", event["port"]))
    return socket.gethostbyname(socket.gethostname())


def fetch(event, context):
    """Make an HTTP request."""
    import urllib.error
    import urllib.request

    body = event["body"].encode() if "body" in event else None
    request = urllib.request.Request(event["url"], body, event.get("headers", {}))
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return {"status": response.status, "body": response.read().decode()}
    except urllib.error.HTTPError as error:
        return {"status": error.code}


def aws(event, context):
    """Call a service as any function's code does, with boto3's standard settings; and whose key signed it."""
    import boto3

    client = boto3.client(event["service"], endpoint_url=event.get("endpoint"))
    answer = getattr(client, event["operation"])(**event.get("arguments", {}))
    answer.pop("ResponseMetadata", None)
    return {"answer": answer, "key": client._request_signer._credentials.access_key}


def large(event, context):
    return "x" * event["bytes"]


def _status(name):
    for line in open("/proc/self/status"):
        if line.startswith(name):
            return line.split()[1]


def _limit():
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


VERBS = {
    "echo": echo,
    "describe": describe,
    "sleep": sleep,
    "wait": wait,
    "fail": fail,
    "exit": end,
    "allocate": allocate,
    "fill": fill,
    "fork": fork,
    "spawn": spawn,
    "processes": processes,
    "write": write,
    "read": read,
    "log": log,
    "large": large,
    "call": call,
    "connect": connect,
    "listen": listen,
    "fetch": fetch,
    "aws": aws,
}

if __name__ == "__main__":
    json.dump(handler(json.load(sys.stdin), None), sys.stdout)
