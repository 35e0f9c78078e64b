"""May the caller do this? Each operation as policies name it: its action, and the ARN of what it is about (§8.4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rie.api.context import RequestContext
from rie.api.parse import Params
from rie.arn import function_arn, locate
from rie.durable.tokens import read_callback_id
from rie.errors import ServiceError
from rie.iam.decision import INVOKE, Call, authorize, refusal
from rie.model.function import LATEST, FunctionKey

Statements = Callable[[FunctionKey, str | None], tuple[str, ...]]
"""(function, qualifier) → the statements of its resource policy, in stored form. May block."""

_ACTIONS = {
    "GetLayerVersionByArn": "lambda:GetLayerVersion",
    "Invoke": INVOKE,
    "InvokeAsync": INVOKE,
    "InvokeWithResponseStream": INVOKE,
}
_ACCOUNT = 4  # arn:aws:lambda:<region>:<account>:…
# Condition keys of requests, and the members that they show.
_KEYS = {
    "lambda:principal": "Principal",
    "lambda:functionurlauthtype": "FunctionUrlAuthType",
    "lambda:layer": "Layers",
    "lambda:codesigningconfigarn": "CodeSigningConfigArn",
}


@dataclass(frozen=True, slots=True)
class Target:
    """What an operation is about; `function` and `qualifier` where it is one, whose resource policy counts."""

    arn: str
    account: str
    function: FunctionKey | None = None
    qualifier: str | None = None


class Permissions:
    """Any thread."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    def permit(self, context: RequestContext, operation: str, params: Params) -> RequestContext:
        """The context to answer in: that of the account whose resource was named, if the caller may.

        Raises ServiceError AccessDeniedException, and for names that can't be read.
        """
        caller = context.caller
        if caller.kind == "local":
            return context
        _check_role(context, operation, params)
        found = target(context, operation, params)
        if caller.is_trusted and found.account == context.account:
            return context
        call = Call(
            caller=caller,
            action=_ACTIONS.get(operation, f"lambda:{operation}"),
            resource=found.arn,
            account=found.account,
            statements=self._statements(found.function, found.qualifier) if found.function else (),
            keys=_condition_keys(context, operation, params),
        )
        decision = authorize(call)
        if not decision.is_allowed:
            raise refusal(call, decision)
        return replace(context, account=found.account)


def _check_role(context: RequestContext, operation: str, params: Params) -> None:
    """Raises ServiceError for who may not hand a role to a function: its credentials would reach him through it."""
    role = params.get("Role")
    if not role or operation not in ("CreateFunction", "UpdateFunctionConfiguration"):
        return
    account = role.split(":")[_ACCOUNT]
    if account != context.account:
        raise ServiceError("AccessDeniedException", "Cross-account pass role is not allowed.")
    call = Call(context.caller, "iam:PassRole", role, account, keys={"iam:passedtoservice": "lambda.amazonaws.com"})
    decision = authorize(call)
    if not decision.is_allowed:
        raise refusal(call, decision)


def target(context: RequestContext, operation: str, params: Params) -> Target:
    """What an operation is about; "*" in the caller's account for lists and the like. Raises ServiceError."""
    for member, kind in (("UUID", "event-source-mapping"), ("CapacityProviderName", "capacity-provider")):
        if member in params:
            return _named(context, kind, params[member])
    if "CallbackId" in params:
        read = read_callback_id(params["CallbackId"])
        return Target("*", context.account) if read is None else _of_arn(context, read[0])
    for member in ("Resource", "ResourceArn", "DurableExecutionArn", "Arn"):
        if member in params:
            return _of_arn(context, params[member])
    if "LayerName" in params:
        version = params.get("VersionNumber")
        named = _named(context, "layer", params["LayerName"])
        return named if version is None else replace(named, arn=f"{named.arn}:{version}")
    if "FunctionName" in params:
        key, qualifier = locate(params["FunctionName"], params.get("Qualifier"), context)
        if operation == "CreateEventSourceMapping":
            return Target("*", key.account)
        qualifier = None if qualifier == LATEST else qualifier
        return Target(function_arn(key, qualifier), key.account, key, qualifier)
    if "CodeSigningConfigArn" in params:
        return _of_arn(context, params["CodeSigningConfigArn"])
    return Target("*", context.account)


def _named(context: RequestContext, kind: str, name: str) -> Target:
    if name.startswith("arn:"):
        return _of_arn(context, name)
    return Target(f"arn:aws:lambda:{context.region}:{context.account}:{kind}:{name}", context.account)


def _of_arn(context: RequestContext, arn: str) -> Target:
    parts = arn.split(":")
    account = parts[_ACCOUNT] if len(parts) > _ACCOUNT + 1 else context.account
    if parts[5:6] == ["function"] and "/" not in arn:
        key, qualifier = locate(arn, None, context)
        return Target(arn, key.account, key, qualifier)
    return Target(arn, account)


def _condition_keys(context: RequestContext, operation: str, params: Params) -> dict[str, str | tuple[str, ...]]:
    members: Mapping[str, Any] = {"FunctionUrlAuthType": params.get("AuthType"), **params}
    keys: dict[str, str | tuple[str, ...]] = {}
    for key, member in _KEYS.items():
        value = members.get(member)
        if value:
            keys[key] = value if isinstance(value, str) else tuple(value)
    vpc = params.get("VpcConfig") or {}
    for key, member in (("lambda:subnetids", "SubnetIds"), ("lambda:securitygroupids", "SecurityGroupIds")):
        if vpc.get(member):
            keys[key] = tuple(vpc[member])
    if operation == "CreateEventSourceMapping":
        function, qualifier = locate(params["FunctionName"], None, context)
        keys["lambda:functionarn"] = function_arn(function, qualifier)
    return keys
