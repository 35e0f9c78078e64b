"""Who sent a request, as signatures and keys tell it."""

from __future__ import annotations

from dataclasses import dataclass

from rie.iam.policy import Policy
from rie.model.scope import Scope


@dataclass(frozen=True, slots=True)
class Caller:
    """`kind`: "local" (nobody is asked who he is here), "root", "user", "role", "service" or "anonymous".

    `arn` is that of the user, or of the role's session ("arn:aws:sts::…:assumed-role/app/f"); a service's name
    ("s3.amazonaws.com"); `role_arn` that of the role behind a session. `policies` are the identity policies, None for
    full access to the caller's own account.
    """

    kind: str
    account: str
    arn: str
    access_key: str = ""
    user_id: str = ""
    role_arn: str = ""
    organization: str = ""
    policies: tuple[Policy, ...] | None = None

    @property
    def is_trusted(self) -> bool:
        """Whether everything in the caller's own account is open to it, without a look at any policy."""
        return self.policies is None and self.kind not in ("service", "anonymous")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls, and where the names he writes are completed: his account, and the region that he signed for."""

    caller: Caller
    scope: Scope


ANONYMOUS = Caller("anonymous", "", "anonymous", user_id="anonymous", policies=())


def local(account: str, access_key: str = "") -> Caller:
    """Whoever reaches a manager that asks nobody who he is: the account's root."""
    return Caller("local", account, f"arn:aws:iam::{account}:root", access_key, user_id=account)


def service(name: str, account: str = "") -> Caller:
    """A service that pushes events: "s3.amazonaws.com"; `account` for which it does, if known."""
    return Caller("service", account, name, user_id=name, policies=())


# Whose principal is not called as the ARNs of its resources are.
_PRINCIPALS = {"execute-api": "apigateway", "cognito-idp": "cognito-idp", "cloudwatch": "lambda.alarms.cloudwatch"}


def service_of(source_arn: str) -> str | None:
    """The principal that pushes the events of a resource: "events.amazonaws.com"; None if the text is no ARN."""
    parts = source_arn.split(":")
    if len(parts) < 6 or parts[0] != "arn" or not parts[2].replace("-", "").isalnum():
        return None
    return f"{_PRINCIPALS.get(parts[2], parts[2])}.amazonaws.com"
