"""Resource policies: statements rendered, added and removed, one policy for each function, version and alias."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, replace
from typing import Any

from rie.arn import function_arn
from rie.errors import ServiceError
from rie.functions.catalog import Catalog
from rie.functions.faults import not_found, refused
from rie.functions.ledger import Ledger
from rie.iam.conditions import PolicyInvalid
from rie.iam.policy import read_policy
from rie.model.alias import ALIASES
from rie.model.function import LATEST, FunctionKey
from rie.model.policy import POLICIES, ResourcePolicy
from rie.model.record import Place, place_of

MAX_POLICY = 20_480  # bytes of a whole document, AWS limit
VERSIONS = ("2012-10-17", "2008-10-17")  # of the policy language
NOTHING_HERE = "The resource you requested does not exist."
NO_POLICY = "No policy is associated with the given resource."
STALE = (
    "The Revision Id provided does not match the latest Revision Id. "
    "Call the GetPolicy API to retrieve the latest Revision Id"
)

_ACCOUNT = re.compile(r"\d{12}", re.ASCII)
_SERVICE = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*\.(amazonaws\.com(\.cn)?|amazon\.com|aws\.internal)", re.ASCII)
_IAM_ARN = re.compile(
    r"arn:aws[a-z-]*:(iam::\d{12}:(root|(user|role)/[\w+=,.@/-]+)"
    r"|sts::\d{12}:(assumed-role/[\w+=,.@-]+/[\w+=,.@-]+|federated-user/[\w+=,.@-]+))",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a caller asks to allow, as he asked for it."""

    statement_id: str
    action: str
    principal: str
    source_arn: str | None = None
    source_account: str | None = None
    event_source_token: str | None = None
    organization: str | None = None
    url_auth_type: str | None = None
    via_url: bool = False


class Policies:
    """Every method blocks and may be called from any thread. Raises ServiceError, StoreFailed."""

    def __init__(self, catalog: Catalog, ledger: Ledger) -> None:
        self._catalog = catalog
        self._ledger = ledger

    def add(self, key: FunctionKey, qualifier: str | None, grant: Grant, revision_id: str | None) -> str:
        """Add a statement; its JSON text (lambda.md §8.1)."""
        _check(grant)
        with self._ledger.exclusively():
            self._check_there(key, qualifier)
            statement = render(grant, function_arn(key, qualifier))
            self._ledger.change(POLICIES, _place(key, qualifier), lambda policy: added(policy, statement, revision_id))
        return statement

    def get(self, key: FunctionKey, qualifier: str | None) -> ResourcePolicy:
        """The policy (lambda.md §8.2)."""
        policy = self._ledger.find(POLICIES, _place(key, qualifier))
        if policy is None:
            raise ServiceError("ResourceNotFoundException", NOTHING_HERE)
        return policy

    def remove(self, key: FunctionKey, qualifier: str | None, statement_id: str, revision_id: str | None) -> None:
        """Remove a statement (lambda.md §8.2)."""
        if self._catalog.find(key) is None:
            arn = function_arn(key, qualifier)
            raise ServiceError("ResourceNotFoundException", f"No policy found for: {arn}")
        self._check_there(key, qualifier)
        place = _place(key, qualifier)
        self._ledger.change(POLICIES, place, lambda policy: removed(policy, statement_id, revision_id))

    def put(self, key: FunctionKey, qualifier: str | None, text: str, revision_id: str | None) -> ResourcePolicy:
        """A whole document takes the place of what was there; the policy that it is now."""
        policy = _read(text)
        with self._ledger.exclusively():
            self._check_there(key, qualifier)

            def replaced(before: ResourcePolicy | None) -> ResourcePolicy:
                _check_revision(before, revision_id, STALE)
                return policy

            self._ledger.change(POLICIES, _place(key, qualifier), replaced)
        return policy

    def drop(self, key: FunctionKey, qualifier: str | None, revision_id: str | None) -> None:
        """Nothing is left of the policy."""
        self._check_there(key, qualifier)

        def dropped(before: ResourcePolicy | None) -> None:
            if before is None:
                raise ServiceError("ResourceNotFoundException", NO_POLICY)
            _check_revision(before, revision_id, STALE)

        self._ledger.change(POLICIES, _place(key, qualifier), dropped)

    def _check_there(self, key: FunctionKey, qualifier: str | None) -> None:
        if qualifier == LATEST:
            raise refused("We currently do not support adding policies for $LATEST.")
        if self._catalog.find(key) is None:
            raise not_found(key)
        if qualifier is None:
            return
        if qualifier.isdecimal() or "$" in qualifier:
            self._catalog.get(key, qualifier)
        elif self._ledger.find(ALIASES, place_of(key, qualifier)) is None:
            arn = function_arn(key, qualifier)
            raise ServiceError("ResourceNotFoundException", f"Cannot find alias arn: {arn}")


def added(policy: ResourcePolicy | None, statement: str, revision_id: str | None, stale: str = STALE) -> ResourcePolicy:
    """The policy with one more statement; `revision_id` is the one that the caller saw, None for any."""
    _check_revision(policy, revision_id, stale)
    sid = json.loads(statement)["Sid"]
    statements = () if policy is None else policy.statements
    if any(_sid(each) == sid for each in statements):
        raise ServiceError(
            "ResourceConflictException",
            f"The statement id ({sid}) provided already exists. "
            "Please provide a new statement id, or remove the existing statement.",
        )
    before = policy or ResourcePolicy("", ())
    after = replace(before, revision_id=str(uuid.uuid4()), statements=(*statements, statement))
    _check_size(after)
    return after


def removed(
    policy: ResourcePolicy | None, statement_id: str, revision_id: str | None, stale: str = STALE
) -> ResourcePolicy | None:
    """The policy with one statement less, None once there is none."""
    if policy is None:
        raise ServiceError("ResourceNotFoundException", NO_POLICY)
    left = tuple(each for each in policy.statements if _sid(each) != statement_id)
    if len(left) == len(policy.statements):
        raise ServiceError("ResourceNotFoundException", f"Statement {statement_id} is not found in resource policy.")
    _check_revision(policy, revision_id, stale)
    return replace(policy, revision_id=str(uuid.uuid4()), statements=left) if left else None


def document(policy: ResourcePolicy) -> str:
    """The whole policy as JSON text."""
    head = {"Version": policy.version} | ({} if policy.policy_id is None else {"Id": policy.policy_id})
    return f'{_compact(head)[:-1]},"Statement":[{",".join(policy.statements)}]}}'


def render(grant: Grant, resource: str) -> str:
    """A statement as JSON text, its keys in the service's order."""
    statement: dict[str, Any] = {
        "Sid": grant.statement_id,
        "Effect": "Allow",
        "Principal": _principal(grant.principal),
        "Action": grant.action,
        "Resource": resource,
    }
    equals = {
        "AWS:SourceAccount": grant.source_account,
        "lambda:FunctionUrlAuthType": grant.url_auth_type,
        "aws:PrincipalOrgID": grant.organization,
        "lambda:EventSourceToken": grant.event_source_token,
    }
    conditions: dict[str, dict[str, str]] = {}
    if any(equals.values()):
        conditions["StringEquals"] = {name: value for name, value in equals.items() if value}
    if grant.via_url:
        conditions["Bool"] = {"lambda:InvokedViaFunctionUrl": "true"}
    if grant.source_arn:
        conditions["ArnLike"] = {"AWS:SourceArn": grant.source_arn}
    if conditions:
        statement["Condition"] = conditions
    return _compact(statement)


def _read(text: str) -> ResourcePolicy:
    """A document that somebody has written. Raises InvalidParameterValueException."""
    try:
        parsed = json.loads(text)
        statements = read_policy(parsed).statements
        if any(each.principals is None and each.not_principals is None for each in statements):
            raise PolicyInvalid("a statement has no Principal")
        version, policy_id = parsed.get("Version", "2008-10-17"), parsed.get("Id")
        if version not in VERSIONS or not isinstance(policy_id, str | None):
            raise PolicyInvalid(f"Version is none of {', '.join(VERSIONS)}, or Id is no text")
    except ValueError as error:
        raise refused(f"The provided policy is invalid: {error}.") from None
    listed = parsed["Statement"] if isinstance(parsed["Statement"], list) else [parsed["Statement"]]
    sids = [each["Sid"] for each in listed if "Sid" in each]
    if len(set(map(str, sids))) < len(sids) or not all(isinstance(sid, str) for sid in sids):
        raise refused("The provided policy is invalid: Sid is a text, and no two statements have the same.")
    policy = ResourcePolicy(str(uuid.uuid4()), tuple(map(_compact, listed)), version, policy_id)
    _check_size(policy)
    return policy


def _compact(content: object) -> str:
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False)


def _sid(statement: str) -> str | None:
    """None for a statement without one: whole documents may have such."""
    sid: str | None = json.loads(statement).get("Sid")
    return sid


def _check_size(policy: ResourcePolicy) -> None:
    size = len(document(policy).encode())
    if size > MAX_POLICY:
        raise ServiceError(
            "PolicyLengthExceededException", f"The final policy size ({size}) is bigger than the limit ({MAX_POLICY})."
        )


def _principal(given: str) -> str | dict[str, str]:
    if given == "*":
        return "*"
    if _ACCOUNT.fullmatch(given):
        return {"AWS": f"arn:aws:iam::{given}:root"}
    if _IAM_ARN.fullmatch(given):
        return {"AWS": given}
    if _SERVICE.fullmatch(given):
        return {"Service": given}
    raise refused("The provided principal was invalid. Please check the principal and try again.")


def _check(grant: Grant) -> None:
    if grant.url_auth_type and grant.action != "lambda:InvokeFunctionUrl":
        raise refused("FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action")
    if grant.via_url and grant.action != "lambda:InvokeFunction":
        raise refused("InvokedViaFunctionUrl is only supported for lambda:InvokeFunction action")
    _principal(grant.principal)


def _check_revision(policy: ResourcePolicy | None, revision_id: str | None, stale: str) -> None:
    if revision_id is not None and (policy is None or policy.revision_id != revision_id):
        raise ServiceError("PreconditionFailedException", stale)


def _place(key: FunctionKey, qualifier: str | None) -> Place:
    return place_of(key, qualifier or LATEST)
