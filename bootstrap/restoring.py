"""The part of the front door that only a snapshot has: the manager says that it has made us from one."""

import json  # what is imported before the snapshot is in every copy

from .commands import ReportRestore
from .events import Restored
from .front_door import JSON, ended, refuse
from .lifecycle import PARKED, Machine
from .output import Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .connection import Connection
    from .http1 import Request
    from .loop import Loop


class Restoring:
    """Takes what is another in each copy, and answers once the runtime's hooks have ended."""

    def __init__(self, loop: "Loop") -> None:
        self._loop = loop
        self._waiters: list[Connection] = []
        self._log = loop.performers[ReportRestore]
        loop.performers[ReportRestore] = self._report

    def handle(self, request: "Request", connection: "Connection") -> None:
        """One request to go on."""
        machine = self._loop.machine
        if not isinstance(machine, Machine) or machine.phase != PARKED:
            refuse(connection, 409, "ResourceConflictException", "there is no snapshot to go on from")
            return
        given = json.loads(request.body)
        self._loop.settings.variables["AWS_LAMBDA_LOG_STREAM_NAME"] = given["logStream"]
        self._loop.credentials = given["credentials"]
        self._waiters.append(connection)
        self._loop.tell(Restored(connection))

    def _report(self, report: ReportRestore) -> None:
        self._log(report)
        if report.status != "success" and isinstance(self._loop.log, Log):
            self._loop.log.flush()  # we shall not live until the next pause
        waiters, self._waiters = self._waiters, []
        for connection in waiters:
            connection.respond(200, JSON, ended(report))
