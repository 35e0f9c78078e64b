"""Hands pushed events to the invoker: as the service that sends them, under the function's policy, asynchronously."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from bootstrap.ids import new_trace_id
from rie.arn import parse_function_reference
from rie.errors import RieError, ServiceError
from rie.iam.caller import Caller, service
from rie.invoke.invoker import Invoker, InvokeRequest
from rie.model.scope import Scope
from rie.triggers.documents import NotAnEvent, Push, push_of

log = logging.getLogger(__name__)

# What another try would not change: the services give these up too.
FINAL = frozenset(
    (
        "AccessDeniedException",
        "InvalidRequestContentException",
        "RequestEntityTooLargeException",
        "ResourceNotFoundException",
        "ValidationException",
    )
)
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 60.0
GIVE_UP_S = 86_400.0  # as EventBridge


class NotNow(Exception):
    """It was not taken, and may be later; `code` is the service's."""

    def __init__(self, why: str, code: str = "ServiceException") -> None:
        super().__init__(why)
        self.code = code


class Never(Exception):
    """It was not taken, and never will be; `code` is the service's."""

    def __init__(self, why: str, code: str) -> None:
        super().__init__(why)
        self.code = code


Offer = Callable[[Push], Awaitable[None]]
"""Returns once an event is in the queue, or given up. Raises NotNow."""


class Intake:
    """Lives on the event loop."""

    def __init__(self, invoker: Invoker) -> None:
        self._invoker = invoker
        self._again: set[asyncio.Task[None]] = set()

    async def take(self, told: dict[str, Any]) -> None:
        """What the endpoint tells of; tried again in the background where it was not taken."""
        try:
            push = push_of(told)
        except NotAnEvent as error:
            log.warning("cannot read what %s tells: %s", told.get("kind"), error)
            return
        await self.deliver(push)

    async def deliver(self, push: Push) -> None:
        """Offer it, and again in the background for a day where it was not taken."""
        try:
            await self.offer(push)
        except NotNow:
            task = asyncio.get_running_loop().create_task(self._insist(push))
            self._again.add(task)
            task.add_done_callback(self._again.discard)

    async def offer(self, push: Push) -> None:
        """See `Offer`."""
        try:
            await self.hand(push)
        except Never as error:
            log.warning("an event of %s for %s is dropped: %s", push.source_arn, push.function_arn, error)

    async def hand(self, push: Push) -> None:
        """Returns once an event is in the queue. Raises NotNow, Never."""
        request = InvokeRequest(
            function_name=push.function_arn,
            qualifier=None,
            body=push.payload,
            scope=_scope(push.function_arn),
            caller=_acting(push.role_arn) if push.role_arn else service(push.service, push.source_account),
            request_id=str(uuid.uuid4()),
            trace_id=new_trace_id(),
            invocation_type="Event",
            source_arn="" if push.role_arn else push.source_arn,
            source_account="" if push.role_arn else push.source_account,
        )
        try:
            await self._invoker.invoke(request)
        except RieError as error:
            if not isinstance(error, ServiceError):
                raise NotNow(str(error)) from error
            raise (Never if error.code in FINAL else NotNow)(error.message or str(error), error.code) from error

    async def close(self) -> None:
        """Try no more."""
        for task in list(self._again):
            task.cancel()
        if self._again:
            await asyncio.wait(self._again)

    async def _insist(self, push: Push) -> None:
        until = time.monotonic() + GIVE_UP_S
        pause_s = FIRST_PAUSE_S
        while time.monotonic() < until:
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            try:
                await self.offer(push)
                return
            except NotNow as error:
                log.info("an event of %s waits: %s", push.source_arn, error)
        log.error("an event of %s for %s is given up after a day", push.source_arn, push.function_arn)


def _acting(role_arn: str) -> Caller:
    """The session of a role that a service acts as."""
    account, name = role_arn.split(":")[4], role_arn.rpartition("/")[2]
    session = f"arn:aws:sts::{account}:assumed-role/{name}/aws-scheduler"
    return Caller("role", account, session, role_arn=role_arn)


def _scope(function_arn: str) -> Scope:
    """An ARN says for itself where its function is."""
    parts = function_arn.split(":")
    return Scope(parts[4], parts[3]) if len(parts) > 6 else Scope("", "")


def is_function(arn: str, account: str, region: str) -> bool:
    """Whether an ARN names a function of this account and region, with a qualifier or without."""
    if not arn.startswith("arn:"):
        return False
    try:
        parse_function_reference(arn, None, Scope(account, region))
    except ServiceError:
        return False
    return True
