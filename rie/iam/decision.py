"""May this call be made? Identity and resource policies, weighed as the service does (lambda.md §8.3, §8.4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from rie.errors import ServiceError
from rie.iam.caller import Caller
from rie.iam.conditions import Context
from rie.iam.policy import Principals, Statement, Verdict, stored_statement, verdict

INVOKE = "lambda:InvokeFunction"
INVOKE_URL = "lambda:InvokeFunctionUrl"


@dataclass(frozen=True, slots=True)
class Call:
    """One call as policies see it.

    `resource` is the ARN as it was addressed, "*" where the action has none; `account` owns it; `statements` are those
    of the resource's own policy, in stored form. `keys` are further condition keys, by name in lower case.
    """

    caller: Caller
    action: str
    resource: str
    account: str
    statements: tuple[str, ...] = ()
    source_arn: str = ""
    source_account: str = ""
    source_ip: str = ""
    url_auth_type: str = ""
    via_url: bool = False
    keys: dict[str, str | tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """`reason` completes a refusal: "because no identity-based policy allows the lambda:InvokeFunction action"."""

    is_allowed: bool
    reason: str = ""


ALLOWED = Decision(True)


def authorize(call: Call) -> Decision:
    """Decide, by the first case that holds.

    1. The caller has full access to its own account, and the resource is there: allow.
    2. A statement denies: refuse.
    3. A service or nobody known calls: the resource policy decides alone.
    4. Another account's resource: the resource policy and the caller's own policies must both allow.
    5. The caller's own account: either suffices.
    """
    caller = call.caller
    is_own = caller.account == call.account
    if caller.is_trusted and is_own:
        return ALLOWED
    context = _context(call)
    by_resource = _by_resource(call, context, is_own)
    by_identity = _by_identity(call, context)
    if by_identity is Verdict.DENY:
        return Decision(False, "with an explicit deny in an identity-based policy")
    if by_resource is Verdict.DENY:
        return Decision(False, "with an explicit deny in a resource-based policy")
    no_resource = Decision(False, f"because no resource-based policy allows the {call.action} action")
    no_identity = Decision(False, f"because no identity-based policy allows the {call.action} action")
    if caller.kind in ("service", "anonymous"):
        return ALLOWED if by_resource is Verdict.ALLOW else no_resource
    if not is_own:
        if by_identity is not Verdict.ALLOW:
            return no_identity
        return ALLOWED if by_resource is Verdict.ALLOW else no_resource
    return ALLOWED if Verdict.ALLOW in (by_identity, by_resource) else no_identity


def refusal(call: Call, decision: Decision) -> ServiceError:
    """The answer to a call that was not allowed (lambda.md §2.4)."""
    return ServiceError(
        "AccessDeniedException",
        f"User: {call.caller.arn} is not authorized to perform: {call.action} "
        f"on resource: {call.resource} {decision.reason}",
    )


def _by_identity(call: Call, context: Context) -> Verdict:
    caller = call.caller
    if caller.policies is None:
        return Verdict.ALLOW
    statements = (statement for policy in caller.policies for statement in policy.statements)
    return verdict(statements, call.action, call.resource, context)


def _by_resource(call: Call, context: Context, is_own: bool) -> Verdict:
    if not call.statements:
        return Verdict.NOTHING
    stored = map(stored_statement, call.statements)
    return verdict(_about(call.caller, stored, is_own), call.action, call.resource, context)


def _about(caller: Caller, statements: Iterable[Statement], is_own: bool) -> Iterator[Statement]:
    """The statements whose principals the caller is one of."""
    for statement in statements:
        if statement.not_principals is not None:
            if not _is_one_of(caller, statement.not_principals, accounts=True):
                yield statement
        elif statement.principals is not None:
            # An account as a principal hands the decision to that account's own policies: in the resource's own
            # account it allows nobody by itself, but it denies.
            counts_accounts = not (is_own and statement.is_allow) or caller.kind in ("root", "local")
            if _is_one_of(caller, statement.principals, accounts=counts_accounts):
                yield statement


def _is_one_of(caller: Caller, principals: Principals, *, accounts: bool) -> bool:
    if principals.is_everyone:
        return True
    if caller.kind == "service":
        return caller.arn in principals.services
    if caller.kind == "anonymous":
        return False
    mine = {caller.arn, caller.role_arn} - {""}
    if accounts:
        mine.add(f"arn:aws:iam::{caller.account}:root")
    return not mine.isdisjoint(principals.arns)


def _context(call: Call) -> Context:
    caller = call.caller
    now = datetime.now(UTC)
    known: dict[str, str] = {
        "aws:sourcearn": call.source_arn,
        "aws:sourceaccount": call.source_account,
        "aws:sourceip": call.source_ip,
        "aws:userid": caller.user_id,
        "aws:principalorgid": caller.organization,
        "lambda:functionurlauthtype": call.url_auth_type,
    }
    if caller.kind not in ("service", "anonymous"):
        known["aws:principalarn"] = caller.role_arn or caller.arn
        known["aws:principalaccount"] = caller.account
        known["aws:principaltype"] = {"user": "User", "role": "AssumedRole"}.get(caller.kind, "Account")
    if caller.kind == "user":
        known["aws:username"] = caller.arn.rpartition("/")[2]
    if caller.kind == "anonymous":
        known["aws:principaltype"] = "Anonymous"
    context: dict[str, str | tuple[str, ...]] = {name: value for name, value in known.items() if value}
    context["aws:currenttime"] = now.isoformat()
    context["aws:epochtime"] = str(int(now.timestamp()))
    context["aws:principalisawsservice"] = str(caller.kind == "service").lower()
    if call.action == INVOKE:
        context["lambda:invokedviafunctionurl"] = str(call.via_url).lower()
    return {**context, **call.keys}
