"""Policy documents: read, and held against a request; pure. Identity and resource policies alike."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from rie.iam.conditions import Condition, Context, PolicyInvalid, expand, plain_matches, read_conditions
from rie.iam.globs import matches

_PARSED = 4_096  # statements of resource policies kept parsed


class Verdict(Enum):
    """What policies say about a request: an explicit deny beats every allow."""

    NOTHING = 0
    ALLOW = 1
    DENY = 2


@dataclass(frozen=True, slots=True)
class Principals:
    """Whom a statement is about. `arns` are ARNs, accounts as "arn:aws:iam::<account>:root", or "*"."""

    is_everyone: bool = False
    arns: tuple[str, ...] = ()
    services: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement; of each pair (actions, not_actions …) one is empty. `principals` None in an identity policy."""

    is_allow: bool
    actions: tuple[str, ...] = ()
    not_actions: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    not_resources: tuple[str, ...] = ()
    principals: Principals | None = None
    not_principals: Principals | None = None
    conditions: tuple[Condition, ...] = ()

    def covers(self, action: str, resource: str, context: Context) -> bool:
        """Whether action, resource and conditions are the request's; principals are the caller's business."""
        return (
            self._covers_action(action.lower())
            and self._covers_resource(resource, context)
            and all(condition.holds(context) for condition in self.conditions)
        )

    def _covers_action(self, action: str) -> bool:
        if self.not_actions:
            return not any(matches(each, action) for each in self.not_actions)
        return any(matches(each, action) for each in self.actions)

    def _covers_resource(self, resource: str, context: Context) -> bool:
        if self.not_resources:
            return not any(plain_matches(expand(each, context), resource) for each in self.not_resources)
        return any(plain_matches(expand(each, context), resource) for each in self.resources)


@dataclass(frozen=True, slots=True)
class Policy:
    """A document, read."""

    statements: tuple[Statement, ...]


def read_policy(document: object) -> Policy:
    """An identity policy from JSON text, or from what is read already. Raises PolicyInvalid."""
    if isinstance(document, str):
        try:
            document = json.loads(document)
        except ValueError as error:
            raise PolicyInvalid(f"it is not JSON: {error}") from None
    if not isinstance(document, Mapping):
        raise PolicyInvalid("it is not an object")
    listed = document.get("Statement")
    if isinstance(listed, Mapping):
        listed = [listed]
    if not isinstance(listed, list) or not listed:
        raise PolicyInvalid("it has no Statement")
    return Policy(tuple(map(read_statement, listed)))


@lru_cache(maxsize=_PARSED)
def stored_statement(text: str) -> Statement:
    """A statement of a resource policy from the JSON that we have stored."""
    return read_statement(json.loads(text))


def read_statement(given: object) -> Statement:
    """One statement. Raises PolicyInvalid."""
    if not isinstance(given, Mapping):
        raise PolicyInvalid("a statement is not an object")
    effect = given.get("Effect")
    if effect not in ("Allow", "Deny"):
        raise PolicyInvalid(f"Effect is neither Allow nor Deny but {effect!r}")
    if ("Action" in given) == ("NotAction" in given):
        raise PolicyInvalid("a statement needs either Action or NotAction")
    if ("Resource" in given) == ("NotResource" in given):
        raise PolicyInvalid("a statement needs either Resource or NotResource")
    return Statement(
        is_allow=effect == "Allow",
        actions=tuple(text.lower() for text in _texts(given, "Action")),
        not_actions=tuple(text.lower() for text in _texts(given, "NotAction")),
        resources=_texts(given, "Resource"),
        not_resources=_texts(given, "NotResource"),
        principals=_principals(given["Principal"]) if "Principal" in given else None,
        not_principals=_principals(given["NotPrincipal"]) if "NotPrincipal" in given else None,
        conditions=read_conditions(given.get("Condition", {})),
    )


def verdict(statements: Iterable[Statement], action: str, resource: str, context: Context) -> Verdict:
    """What statements that are about the caller say."""
    found = Verdict.NOTHING
    for statement in statements:
        if statement.covers(action, resource, context):
            if not statement.is_allow:
                return Verdict.DENY
            found = Verdict.ALLOW
    return found


def _texts(given: Mapping[str, object], name: str) -> tuple[str, ...]:
    value = given.get(name, ())
    listed = (value,) if isinstance(value, str) else value
    if not isinstance(listed, list | tuple) or not all(isinstance(each, str) for each in listed):
        raise PolicyInvalid(f"{name} is neither a text nor a list of texts")
    if name in given and not listed:
        raise PolicyInvalid(f"{name} is empty")
    return tuple(listed)


def _principals(given: object) -> Principals:
    if given == "*":
        return Principals(is_everyone=True)
    if not isinstance(given, Mapping):
        raise PolicyInvalid('Principal is neither "*" nor an object')
    arns = tuple(account_root(each) for each in _texts(given, "AWS"))
    return Principals("*" in arns, arns, _texts(given, "Service"))


def account_root(principal: str) -> str:
    """The root ARN of an account that is named by its number; anything else as it is."""
    is_account = len(principal) == 12 and principal.isascii() and principal.isdigit()
    return f"arn:aws:iam::{principal}:root" if is_account else principal
