"""What pollers ask of the rest of the manager."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeVar

from rie.clock import Clock
from rie.errors import HostFault, ImageFault, ServiceError
from rie.model.event import Delivery
from rie.model.invocation import Outcome
from rie.model.mapping import Checkpoint, Mapping

T = TypeVar("T")

OK = "OK"
NOTHING_YET = "No records processed"
CALL_FAILED = "PROBLEM: Function call failed"

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0


class NotRun(Exception):
    """The function was not run: throttled, gone, or a fault of this machine; `result` is what the mapping shows."""

    def __init__(self, result: str) -> None:
        super().__init__(result)
        self.result = result


@dataclass(frozen=True, slots=True)
class Around:
    """All on the event loop but `client`, which may block.

    `run` invokes a mapping's function with a payload (raises ServiceError, HostFault, ImageFault); `client` is a boto3
    client that acts as the function's execution role; `timeout_s` the function's timeout; `note` keeps
    LastProcessingResult; `load` and `save` a shard's checkpoint (durable when it returns); `deliver` sends failure
    records, durable when it returns; `role` is the execution role's ARN.
    """

    run: Callable[[Mapping, bytes], Awaitable[Outcome]]
    client: Callable[[Mapping], Any]
    timeout_s: Callable[[Mapping], int]
    role: Callable[[Mapping], str]
    note: Callable[[Mapping, str], None]
    load: Callable[[Mapping, str], Awaitable[Checkpoint | None]]
    save: Callable[[Mapping, str, Checkpoint], Awaitable[None]]
    deliver: Callable[[tuple[Delivery, ...]], Awaitable[None]]
    clock: Clock

    async def invoke(self, mapping: Mapping, payload: bytes) -> Outcome:
        """One batch through the function. Raises NotRun."""
        try:
            return await self.run(mapping, payload)
        except ServiceError as error:
            if error.code == "TooManyRequestsException":
                raise NotRun("PROBLEM: Function call was throttled") from error
            if error.code == "ResourceNotFoundException":
                raise NotRun("PROBLEM: Function not found") from error
            raise NotRun(f"PROBLEM: {error.message}") from error
        except (HostFault, ImageFault) as error:
            raise NotRun(f"PROBLEM: {error}") from error


async def in_thread(executor: Executor, function: Callable[[], T]) -> T:
    """Run a blocking call of a poller."""
    return await asyncio.get_running_loop().run_in_executor(executor, function)


def problem(error: Exception) -> str:
    """What LastProcessingResult shows of an endpoint that could not be asked, or of a role that can't be assumed."""
    return f"PROBLEM: {error.message if isinstance(error, ServiceError) else error}"


def pause_s(failures: int) -> float:
    """How long to wait after so many failures in a row (from 1)."""
    return min(FIRST_PAUSE_S * 2.0 ** min(failures - 1, 20), LONGEST_PAUSE_S)
