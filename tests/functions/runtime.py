"""A scripted runtime: no client library, so that it can also do what no client does. The script is a list of steps.

argv[1]: JSON list; each step is ["next"], ["response", body], ["error", body, type], ["init-error", body, type],
["post", path, body], ["chunked", [parts], trailers, content type], ["exit", status], ["sleep", seconds],
["print", text, times], ["subscribe", path, document] (as the extension of the step before), ["ignore-sigterm"] or
["loop"] (answer every event with itself, for ever).
What the API answered is printed, a line of JSON for each step.
"""

import http.client
import json
import os
import signal
import sys
import threading
import time

connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
API = "/2018-06-01/runtime"
request_id = ""
identifier = ""
kept = []


def ask(method, path, body=None, headers=None):
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    payload = response.read()
    return response.status, dict(response.getheaders()), payload.decode("utf-8", "replace")


def say(status, headers, payload):
    print("step", json.dumps({"status": status, "headers": headers, "body": payload[:2000]}), flush=True)


def wait_as_extension(name):
    own = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    own.request("GET", "/2020-01-01/extension/event/next", headers={"Lambda-Extension-Identifier": name})
    own.getresponse()


def run(step):
    global request_id, identifier
    kind, *rest = step
    if kind == "next":
        status, headers, payload = ask("GET", f"{API}/invocation/next")
        request_id = headers.get("Lambda-Runtime-Aws-Request-Id", request_id)
        say(status, headers, payload)
    elif kind == "response":
        say(*ask("POST", f"{API}/invocation/{request_id}/response", rest[0].encode()))
    elif kind == "large":
        say(*ask("POST", f"{API}/invocation/{request_id}/response", b"x" * rest[0]))
    elif kind == "error":
        headers = {"Lambda-Runtime-Function-Error-Type": rest[1]} if len(rest) > 1 else {}
        if len(rest) > 2:
            headers["Content-Type"] = rest[2]
        say(*ask("POST", f"{API}/invocation/{request_id}/error", rest[0].encode(), headers))
    elif kind == "init-error":
        say(*ask("POST", f"{API}/init/error", rest[0].encode(), {"Lambda-Runtime-Function-Error-Type": rest[1]}))
    elif kind == "get":
        say(*ask("GET", rest[0], None, rest[1] if len(rest) > 1 else {}))
    elif kind == "metadata":
        token = {"Authorization": f"Bearer {os.environ['AWS_LAMBDA_METADATA_TOKEN']}"}
        assert os.environ["AWS_LAMBDA_METADATA_API"] == os.environ["AWS_LAMBDA_RUNTIME_API"]
        say(*ask("GET", "/2026-01-15/metadata/execution-environment", None, token))
    elif kind == "post":
        say(*ask("POST", rest[0].replace("{id}", request_id), rest[1].encode()))
    elif kind == "extension":
        status, headers, payload = ask(rest[0], rest[1], rest[3].encode() or None, rest[2])
        identifier = headers.get("Lambda-Extension-Identifier", "")
        say(status, headers, payload)
    elif kind == "subscribe":
        mine = {"Lambda-Extension-Identifier": identifier}
        say(*ask("PUT", rest[0], json.dumps(rest[1]), mine))
    elif kind == "extension-waits":
        threading.Thread(target=wait_as_extension, args=(identifier,), daemon=True).start()
    elif kind == "chunked":
        stream(*rest[:2], content_type=rest[2] if len(rest) > 2 else None)
    elif kind == "slowly":
        stream(rest[0], {}, *rest[1:])
    elif kind == "large-stream":
        stream(["x" * (1 << 20)] * rest[0], {})
    elif kind == "begin":
        begin()
        piece(rest[0])
        time.sleep(0.2)
    elif kind == "hang-up":
        connection.close()
    elif kind == "exit":
        os._exit(rest[0])
    elif kind == "signal":
        os.kill(os.getpid(), rest[0])
    elif kind == "sleep":
        time.sleep(rest[0])
    elif kind == "print":
        print(rest[0] * (rest[1] if len(rest) > 1 else 1), flush=True)
    elif kind == "allocate":
        kept.append([bytearray(os.urandom(1 << 20)) for _ in range(rest[0])])
        time.sleep(0.3)
    elif kind == "allocate-in-child":
        if os.fork() == 0:
            kept.append([bytearray(os.urandom(1 << 20)) for _ in range(rest[0])])
            time.sleep(30)
        os.wait()
    elif kind == "environment":
        print("environment", json.dumps(dict(os.environ)), flush=True)
    elif kind == "ignore-sigterm":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif kind == "loop":
        while True:
            _, headers, payload = ask("GET", f"{API}/invocation/next")
            ask("POST", f"{API}/invocation/{headers['Lambda-Runtime-Aws-Request-Id']}/response", payload.encode())


def begin(content_type=None):
    connection.putrequest("POST", f"{API}/invocation/{request_id}/response")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.putheader("Lambda-Runtime-Function-Response-Mode", "streaming")
    if content_type:
        connection.putheader("Content-Type", content_type)
    connection.putheader("Trailer", "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body")
    connection.endheaders()


def piece(part):
    connection.send(b"%x\r\n%s\r\n" % (len(part), part.encode()))


def stream(parts, trailers, pause=0, content_type=None):
    begin(content_type)
    for part in parts:
        piece(part)
        time.sleep(pause)
    end = "".join(f"{name}: {value}\r\n" for name, value in trailers.items())
    connection.send(b"0\r\n" + end.encode() + b"\r\n")
    response = connection.getresponse()
    say(response.status, dict(response.getheaders()), response.read().decode())


for step in json.loads(sys.argv[1]):
    run(step)
