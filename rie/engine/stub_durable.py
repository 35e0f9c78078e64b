"""A function of the stub engine that speaks the protocol of durable functions (lambda.md §13.1)."""

from __future__ import annotations

import json
import urllib.request
from typing import Any
from urllib.parse import quote


def answer(event: Any, endpoint: str) -> bytes:
    """A step; a wait, if the input has "wait" (seconds); a callback, if it has "callback"; then the results by id.

    With "fail" it fails instead, with that message.

    Blocks: checkpoints go to the API at `endpoint`.
    """
    operations = {each["Id"]: each for each in event["InitialExecutionState"]["Operations"]}
    given = json.loads(event["InitialExecutionState"]["Operations"][0]["ExecutionDetails"]["InputPayload"])
    wanted: list[dict[str, Any]] = [{"Id": "step", "Type": "STEP", "Action": "SUCCEED", "Payload": "1"}]
    if given.get("wait"):
        options = {"WaitSeconds": given["wait"]}
        wanted.append({"Id": "wait", "Type": "WAIT", "Action": "START", "WaitOptions": options})
    if given.get("callback"):
        wanted.append({"Id": "callback", "Type": "CALLBACK", "Action": "START"})
    new = [each for each in wanted if each["Id"] not in operations]
    if new:
        body = json.dumps({"CheckpointToken": event["CheckpointToken"], "Updates": new}).encode()
        path = f"/2025-12-01/durable-executions/{quote(event['DurableExecutionArn'], safe='')}/checkpoint"
        with urllib.request.urlopen(f"{endpoint}{path}", body, timeout=10) as response:
            state = json.loads(response.read())["NewExecutionState"]
        operations |= {each["Id"]: each for each in state["Operations"]}
    if any(operations[each["Id"]]["Status"] == "STARTED" for each in wanted):
        return b'{"Status": "PENDING"}'
    if given.get("fail"):
        return json.dumps({"Status": "FAILED", "Error": {"ErrorMessage": given["fail"]}}).encode()
    result = {each["Id"]: operations[each["Id"]]["Status"] for each in wanted}
    return json.dumps({"Status": "SUCCEEDED", "Result": json.dumps(result)}).encode()
