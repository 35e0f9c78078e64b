"""The compatible endpoint as a program of its own: moto's server, whose functions are the manager's.

    python -m rie.cloud.endpoint 127.0.0.1:9001 [ADDRESS:PORT …]

What a bucket, a topic or a rule would invoke a function with goes to standard output, one JSON object a line, as the
service has it; `rie.triggers.documents` makes the function's event of it. The program ends with its standard input, so
it never outlives who started it. moto itself calls functions of its own at these three places, and has none; that is
what is replaced here, and that it drops the binaryMediaTypes of REST APIs.
"""

from __future__ import annotations

import base64
import copy
import json
import os
import sys
import threading
from typing import Any


class Handover:
    """Where events leave the process, one line each, in their order."""

    def __init__(self, fd: int) -> None:
        self._out = os.fdopen(fd, "wb", buffering=0)
        self._writing = threading.Lock()

    def __call__(self, kind: str, function: str, body: Any, **more: Any) -> None:
        line = json.dumps({"kind": kind, "function": function, "body": body, **more}, default=_plain)
        with self._writing:
            self._out.write(line.encode() + b"\n")


def _plain(value: Any) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def _replace_targets(tell: Handover) -> None:
    """Have buckets, topics and rules tell us instead of moto's own functions."""
    from moto.events.models import Rule
    from moto.s3 import notifications
    from moto.sns.models import Subscription

    def of_bucket(account_id: str, event_body: Any, fn_arn: str, region_name: str) -> None:
        tell("s3", fn_arn, event_body, account=account_id)

    publish = Subscription.publish

    def of_topic(self: Any, message: str, message_id: str, **more: Any) -> None:
        if self.protocol != "lambda":
            return publish(self, message, message_id, **more)
        matcher = self._filter_policy_matcher
        attributes = more.get("message_attributes")
        if matcher is not None and not matcher.matches(attributes, message):
            return None
        if more.get("message_structure") == "json":
            message = self._parse_message_structure(message, self.protocol)
        body = self.get_post_data(message, message_id, more.get("subject"), message_attributes=attributes)
        return tell("sns", self.endpoint, body, subscription=self.arn)

    send = Rule.send_to_targets

    def of_rule(self: Any, original_event: Any, transform_input: bool = True) -> None:
        if self.state == "DISABLED":
            return
        ours = [target for target in self.targets if ":lambda:" in target["Arn"]]
        others = copy.copy(self)
        others.targets = [target for target in self.targets if target not in ours]
        if others.targets:
            send(others, copy.deepcopy(original_event), transform_input)
        if self.event_pattern.get_pattern() and self.event_pattern.matches_event(original_event):
            for target in ours:
                tell("events", target["Arn"], original_event, rule=self.arn, target=target)

    for owner, name, ours in (
        (notifications, "_invoke_awslambda", of_bucket),
        (Subscription, "publish", of_topic),
        (Rule, "send_to_targets", of_rule),
    ):
        assert hasattr(owner, name), f"this version of moto has no {name}"
        setattr(owner, name, ours)


def _keep_media_types() -> None:
    """Have REST APIs keep the binaryMediaTypes that they are made with, and take them from paths of patches."""
    from moto.apigateway.models import RestAPI
    from moto.apigateway.responses import APIGatewayResponse

    create, patch = APIGatewayResponse.create_rest_api, RestAPI.apply_patch_operations

    def created(self: Any) -> Any:
        status, headers, body = create(self)
        types = self._get_param("binaryMediaTypes")
        if types and "id" in (made := json.loads(body)):
            api = self.backend.get_rest_api(made["id"])
            api.binaryMediaTypes = list(types)
            body = json.dumps(api.to_dict())
        return status, headers, body

    def patched(self: Any, operations: Any) -> None:
        for each in operations:
            if each["path"].startswith("/binaryMediaTypes/") and not each.get("value"):
                each["value"] = each["path"].split("/", 2)[2].replace("~1", "/")
        patch(self, operations)

    # Its own annotations don't matter here.
    setattr(APIGatewayResponse, "create_rest_api", created)  # noqa: B010
    setattr(RestAPI, "apply_patch_operations", patched)  # noqa: B010


def _end_with_stdin() -> None:
    while os.read(0, 4_096):
        pass
    os._exit(0)


def main(addresses: list[str]) -> None:
    """Serve until standard input ends."""
    out = os.dup(1)
    os.dup2(2, 1)  # whatever else prints is the log's
    import logging

    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    host, _, port = addresses[0].rpartition(":")
    os.environ.setdefault("MOTO_PORT", port)
    _replace_targets(Handover(out))
    _keep_media_types()
    app = DomainDispatcherApplication(create_backend_app)
    servers = []
    for address in addresses:
        host, _, port = address.rpartition(":")
        servers.append(make_server(host, int(port), app, threaded=True, request_handler=MotoRequestHandler))
    for server in servers[1:]:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    servers[0].serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
