"""A web adapter: an extension that polls for invocations in the runtime's place and has a web application answer them.

The application is the image's command: a plain web server on $PORT that knows nothing of Lambda. The adapter registers
for no events, waits for the application, and turns events of function URLs into requests.
"""

import base64
import http.client
import json
import os
import sys
import threading
import time

API = os.environ["AWS_LAMBDA_RUNTIME_API"]
RUNTIME, EXTENSION = "/2018-06-01/runtime", "/2020-01-01/extension"
PRELUDE = "application/vnd.awslambda.http-integration-response"


def register():
    connection = http.client.HTTPConnection(API)
    name = {"Lambda-Extension-Name": os.path.basename(sys.argv[0])}
    connection.request("POST", f"{EXTENSION}/register", '{"events": []}', name)
    response = connection.getresponse()
    response.read()
    identifier = {"Lambda-Extension-Identifier": response.headers["Lambda-Extension-Identifier"]}

    def wait_for_nothing():
        connection.request("GET", f"{EXTENSION}/event/next", headers=identifier)
        connection.getresponse()

    threading.Thread(target=wait_for_nothing, daemon=True).start()


def application():
    return http.client.HTTPConnection("127.0.0.1", int(os.environ["PORT"]))


def wait_for_application():
    while True:
        try:
            connection = application()
            connection.request("GET", "/health")
            connection.getresponse().read()
            return
        except OSError:
            time.sleep(0.01)


def ask_application(event):
    body = event.get("body") or ""
    body = base64.b64decode(body) if event.get("isBase64Encoded") else body.encode()
    path = event["rawPath"] + ("?" + event["rawQueryString"] if event["rawQueryString"] else "")
    connection = application()
    connection.request(event["requestContext"]["http"]["method"], path, body, event["headers"])
    return connection.getresponse()


def answer_whole(runtime, request_id, response):
    body = base64.b64encode(response.read()).decode()
    document = {"statusCode": response.status, "headers": dict(response.getheaders()), "body": body}
    document["isBase64Encoded"] = True
    runtime.request("POST", f"{RUNTIME}/invocation/{request_id}/response", json.dumps(document))
    runtime.getresponse().read()


def answer_in_pieces(runtime, request_id, response):
    runtime.putrequest("POST", f"{RUNTIME}/invocation/{request_id}/response")
    runtime.putheader("Transfer-Encoding", "chunked")
    runtime.putheader("Lambda-Runtime-Function-Response-Mode", "streaming")
    runtime.putheader("Content-Type", PRELUDE)
    runtime.endheaders()
    prelude = {"statusCode": response.status, "headers": dict(response.getheaders())}
    piece = json.dumps(prelude).encode() + b"\0" * 8
    while piece:
        runtime.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        piece = response.read1(65_536)
    runtime.send(b"0\r\n\r\n")
    runtime.getresponse().read()


def main():
    register()
    wait_for_application()
    runtime = http.client.HTTPConnection(API)
    while True:
        runtime.request("GET", f"{RUNTIME}/invocation/next")
        response = runtime.getresponse()
        event = json.loads(response.read())
        answer = answer_in_pieces if os.environ.get("ADAPTER_STREAMS") else answer_whole
        answer(runtime, response.headers["Lambda-Runtime-Aws-Request-Id"], ask_application(event))


main()
