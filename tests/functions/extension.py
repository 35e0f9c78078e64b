"""A scripted extension: an external one as a program in the extensions directory. The script is the file beside it.

<name>.json: list of steps; each is ["register", [events]], ["next"], ["init-error", type], ["exit-error", type],
["exit", status], ["sleep", seconds], ["ignore-sigterm"], ["subscribe", path, document], ["print", text],
["raw", method, path, headers, body] or ["loop"]. What the API answered is printed, a line of JSON for each step, after
"ext <name> ".
"""

import http.client
import json
import os
import signal
import sys
import time

NAME = os.path.basename(sys.argv[0])
API = "/2020-01-01/extension"
connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
identifier = ""


def ask(method, path, headers=None, body=None):
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    payload = response.read().decode("utf-8", "replace")
    found = dict(response.getheaders())
    print(f"ext {NAME}", json.dumps({"status": response.status, "headers": found, "body": payload}), flush=True)
    return response.status, found, payload


def run(step):
    global identifier
    kind, *rest = step
    mine = {"Lambda-Extension-Identifier": identifier}
    if kind == "register":
        headers = {"Lambda-Extension-Name": NAME, "Lambda-Extension-Accept-Feature": "accountId"}
        _, found, _ = ask("POST", f"{API}/register", headers, json.dumps({"events": rest[0]}))
        identifier = found.get("Lambda-Extension-Identifier", identifier)
    elif kind == "next":
        ask("GET", f"{API}/event/next", mine)
    elif kind in ("init-error", "exit-error"):
        path = f"{API}/{kind.replace('-', '/')}"
        ask("POST", path, {**mine, "Lambda-Extension-Function-Error-Type": rest[0]}, "{}")
    elif kind == "subscribe":
        ask("PUT", rest[0], mine, json.dumps(rest[1]))
    elif kind == "print":
        print(rest[0], flush=True)
    elif kind == "raw":
        ask(rest[0], rest[1], rest[2], rest[3] if len(rest) > 3 else None)
    elif kind == "exit":
        os._exit(rest[0])
    elif kind == "sleep":
        time.sleep(rest[0])
    elif kind == "environment":
        print(f"ext {NAME}", json.dumps(dict(os.environ)), flush=True)
    elif kind == "ignore-sigterm":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif kind == "loop":
        while True:
            _, _, payload = ask("GET", f"{API}/event/next", mine)
            if json.loads(payload)["eventType"] == "SHUTDOWN":
                return


for step in json.load(open(sys.argv[0] + ".json")):
    run(step)
