"""Who may invoke: the policy of what was addressed, held against the caller (lambda.md §8.3, §9.2)."""

from __future__ import annotations

from rie.arn import function_arn
from rie.iam.caller import Caller, service, service_of
from rie.iam.decision import INVOKE, INVOKE_URL, Call, authorize, refusal
from rie.invoke.mirror import Mirror
from rie.model.function import LATEST, FunctionKey
from rie.model.policy import POLICIES
from rie.model.record import Place


class Access:
    """Owned by the event loop. Costs nothing for who has full access to the account that he calls in.

    `url_needs_invoke`: callers of URLs must be allowed to invoke besides (lambda.md §9.2).
    """

    def __init__(self, mirror: Mirror, *, url_needs_invoke: bool = False) -> None:
        self._mirror = mirror
        self._url_actions = (INVOKE_URL, INVOKE) if url_needs_invoke else (INVOKE_URL,)

    def check(
        self,
        caller: Caller,
        key: FunctionKey,
        qualifier: str | None,
        *,
        source_arn: str = "",
        source_account: str = "",
        source_ip: str = "",
    ) -> None:
        """Whether a caller may invoke what he has addressed. Raises ServiceError AccessDeniedException.

        Where nobody is asked who he is, a call that names the resource it comes from is that of the resource's
        service: the function's policy must let it in, as on the service.
        """
        if caller.is_trusted and caller.account == key.account and not (source_arn and caller.kind == "local"):
            return
        if caller.kind == "local" and (name := service_of(source_arn)):
            caller = service(name, source_account)
        call = Call(
            caller=caller,
            action=INVOKE,
            resource=_resource(key, qualifier),
            account=key.account,
            statements=self._statements(key, qualifier),
            source_arn=source_arn,
            source_account=source_account,
            source_ip=source_ip,
        )
        decision = authorize(call)
        if not decision.is_allowed:
            raise refusal(call, decision)

    def allows_url(
        self, caller: Caller, key: FunctionKey, qualifier: str | None, auth_type: str, source_ip: str = ""
    ) -> bool:
        """Whether a caller may call the URL of a function or alias, as the URL's gate has found him."""
        statements = self._statements(key, qualifier)
        calls = (
            Call(
                caller=caller,
                action=action,
                resource=_resource(key, qualifier),
                account=key.account,
                statements=statements,
                source_ip=source_ip,
                url_auth_type=auth_type,
                via_url=True,
            )
            for action in self._url_actions
        )
        return all(authorize(call).is_allowed for call in calls)

    def _statements(self, key: FunctionKey, qualifier: str | None) -> tuple[str, ...]:
        policy = self._mirror.find(POLICIES, Place(key.account, key.region, key.name, qualifier or LATEST))
        return () if policy is None else policy.statements


def _resource(key: FunctionKey, qualifier: str | None) -> str:
    """The ARN as it was addressed; $LATEST has no policy of its own but the function's."""
    return function_arn(key, None if qualifier == LATEST else qualifier)
