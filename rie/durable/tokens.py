"""Checkpoint tokens and callback ids: opaque to clients, read back here."""

from __future__ import annotations

import base64
import binascii

import orjson

from rie.model.durable import Execution


def token_of(execution: Execution) -> str:
    """The only token that the running invocation may use next."""
    return _text({"arn": execution.arn, "seq": execution.sequence, "inv": execution.invocation_id})


def callback_id(execution: Execution, operation_id: str, nonce: str) -> str:
    """The id that a callback is resolved by; `nonce` makes it unguessable."""
    return _text({"arn": execution.arn, "op": operation_id, "n": nonce})


def read_callback_id(text: str) -> tuple[str, str] | None:
    """(execution's ARN, operation's id); None for what was never given out."""
    try:
        read = orjson.loads(base64.b64decode(text, validate=True))
        arn, operation_id = read["arn"], read["op"]
    except (binascii.Error, ValueError, KeyError, TypeError):
        return None
    return (arn, operation_id) if isinstance(arn, str) and isinstance(operation_id, str) else None


def execution_id_of(arn: str) -> str:
    """The last part of a DurableExecutionArn; whether the rest of it is right is for whoever finds the execution."""
    return arn.rpartition("/")[2]


def _text(content: object) -> str:
    return base64.b64encode(orjson.dumps(content)).decode()
