"""The Telemetry API and its predecessor, the Logs API: how extensions subscribe (service spec §3.10).

What happens before anybody has subscribed is kept until init has ended, because subscribers are sent all of init. When
init has ended and nobody has subscribed, nothing is listened to any more, and nothing of this costs anything.
"""

import time

from .commands import (
    Deliver,
    DeliverShutdown,
    KillExtension,
    KillRuntime,
    ReportEnd,
    ReportExtension,
    ReportFault,
    ReportInit,
    ReportInitRuntimeDone,
    ReportInitStart,
    ReportRestore,
    ReportRestoreStart,
    ReportRuntimeDone,
    ReportStart,
    ReportSubscription,
    Subscribe,
    TerminateRuntime,
)
from .events import SubscriptionPosted
from .extension_requests import JSON, dump, identifier_of, refuse
from .wire import LOGS_API, LOGS_PATH, MAX_RESPONSE, TELEMETRY_API, TELEMETRY_PATH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from .connection import Connection
    from .http1 import Request
    from .loop import Loop
    from .records import Record
    from .telemetry import Telemetry

APIS = {TELEMETRY_PATH: TELEMETRY_API, LOGS_PATH: LOGS_API}
TEXT = [("Content-Type", "text/plain; charset=utf-8")]
MAX_EARLY_BYTES = 1_048_576  # of lines that are kept for whoever subscribes later
MAX_EARLY_REPORTS = 1_000
REPORTS = (
    *(ReportInitRuntimeDone, ReportInit, ReportRestoreStart, ReportRestore, ReportExtension),
    *(ReportStart, ReportFault, ReportRuntimeDone, ReportEnd),
)
# These tell when an event was delivered, and that the environment is about to be shut down.
SIGNS = (Deliver, TerminateRuntime, KillRuntime, KillExtension)


class Early:
    """What has happened until now: reports and lines, each with its instant (seconds since 1970); bounded."""

    def __init__(self) -> None:
        self.items: list[tuple[float, Any, int]] = []
        self.lost_records = 0
        self.lost_bytes = 0
        self._octets = 0
        self._reports = 0

    def report(self, at: float, report: "Record", used_mb: int) -> None:
        """Keep a report."""
        self._reports += 1
        if self._reports <= MAX_EARLY_REPORTS:
            self.items.append((at, report, used_mb))

    def lines(self, at: float, name: str, text: bytes, is_record: bool) -> None:
        """Keep what a party has printed, or count it."""
        if self._octets + len(text) > MAX_EARLY_BYTES:
            self.lost_records += text.count(b"\n")
            self.lost_bytes += len(text)
        else:
            self._octets += len(text)
            self.items.append((at, (name, text, is_record), 0))


class TelemetryApi:
    """Two paths, and an ear on what the machine has done."""

    def __init__(self, loop: "Loop", version: str) -> None:
        """After all others that perform commands: it listens in on them."""
        self._loop = loop
        self._version = version
        self._early: Early | None = None
        self._telemetry: Telemetry | None = None  # once somebody has subscribed in this life of the environment
        self._taps: dict[type, Callable[[Any], None]] = {
            **dict.fromkeys(REPORTS, self._hear_report),
            **dict.fromkeys(SIGNS, self._hear_sign),
            DeliverShutdown: self._hear_shutdown,
        }
        self._untapped: dict[type, Callable[[Any], None]] = {}  # what performs a command that we listen to
        loop.performers[Subscribe] = self._subscribe
        if not loop.settings.is_compat:
            self._begin_plainly = loop.performers[ReportInitStart]
            loop.performers[ReportInitStart] = self._init_begins
            self._listen()

    # -- requests -------------------------------------------------------------------------------------------------

    def handle(self, request: "Request", connection: "Connection") -> bool:
        """Answer one request; False if the path is nobody's here."""
        api = APIS.get(request.path)
        if api is None:
            return False
        if request.method != "PUT":
            connection.respond(405, [("Allow", "PUT"), *TEXT], b"Method Not Allowed\n")
        elif self._loop.settings.is_compat:
            message = f"{api} API is not supported"
            connection.respond(202, JSON, dump({"errorMessage": message, "errorType": f"{api}.NotSupported"}) + b"\n")
        elif request.too_large:
            message = f"Exceeded maximum allowed payload size ({MAX_RESPONSE} bytes)."
            document = {"errorMessage": message, "errorType": "RequestEntityTooLarge"}
            connection.respond(413, JSON, dump(document) + b"\n")
        else:
            identifier = identifier_of(request, connection)
            if identifier:
                self._loop.tell(SubscriptionPosted(connection, identifier, api, request.body))
        return True

    def _subscribe(self, command: Subscribe) -> None:
        from . import subscription  # what follows is for those who subscribe only

        api = command.api
        try:
            wanted = subscription.parse(api, command.body)
        except ValueError as error:
            kind = "ValidationError" if api == TELEMETRY_API else f"{api}.ValidationError"
            command.exchange.respond(400, TEXT, dump({"errorType": kind, "errorMessage": str(error)}))
            return
        if self._telemetry is None:
            from .telemetry import Telemetry

            self._telemetry = self._loop.timekeeper = Telemetry(self._loop, self._version)
        other = self._telemetry.api_of(command.name)
        if other and other != api:
            message = f"the extension {command.name} has subscribed by the {other} API already"
            refuse(command.exchange, f"{api}.SubscriptionClosed", message)
            return
        command.exchange.respond(200, TEXT, b'"OK"')
        if other:
            state, types = "Already subscribed", self._telemetry.types_of(command.name)  # it stays as it was
        else:
            state, types = "Subscribed", wanted.types
            assert self._early is not None
            self._telemetry.subscribe(command.name, wanted, self._early)
        report = ReportSubscription(api, command.name, state, types)
        self._loop.report(report)
        self._keep(report)

    # -- listening ------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        self._early = self._early or Early()
        performers = self._loop.performers
        for kind, tap in self._taps.items():
            if kind not in self._untapped:
                self._untapped[kind] = performers[kind]
                performers[kind] = tap
        self._loop.tap = self._hear_lines

    def _listen_no_more(self) -> None:
        """Put back what was there; where somebody listens to us in turn, we stay and hear nothing."""
        performers = self._loop.performers
        for kind, plain in list(self._untapped.items()):
            if performers[kind] == self._taps[kind]:
                performers[kind] = plain
                del self._untapped[kind]
        self._loop.tap = None

    def _init_begins(self, report: ReportInitStart) -> None:
        """A new life: those who had subscribed in the last one are gone."""
        self._begin_plainly(report)
        knows_start = self._loop.tap is not None
        if self._telemetry is not None:
            self._telemetry.close()
            self._telemetry = self._loop.timekeeper = self._early = None
            knows_start = False
        self._listen()
        if report.invocation is not None and not knows_start:
            self._keep(ReportStart(report.invocation))
        self._keep(report)

    def _hear_report(self, report: "Record") -> None:
        self._untapped[type(report)](report)
        self._keep(report)
        if isinstance(report, ReportInit):
            self._init_ends(report)

    def _keep(self, report: "Record") -> None:
        now = time.time()
        if self._early is not None:
            self._early.report(now, report, self._loop.used_mb)
        if self._telemetry is not None:
            self._telemetry.take_report(now, report, self._loop.used_mb)

    def _init_ends(self, report: ReportInit) -> None:
        if report.status != "success":
            if self._telemetry is not None:
                self._telemetry.hurry()
            return  # it will be repeated, and be told of this one
        self._early = None
        if self._telemetry is None:
            self._listen_no_more()

    def _hear_lines(self, name: str, text: bytes, is_record: bool) -> None:
        now = time.time()
        if self._early is not None:
            self._early.lines(now, name, text, is_record)
        if self._telemetry is not None:
            self._telemetry.take_lines(now, name, text, is_record)

    def _hear_sign(self, command: "Record") -> None:
        if self._telemetry is not None:
            self._telemetry.take_sign(command)
        self._untapped[type(command)](command)

    def _hear_shutdown(self, command: DeliverShutdown) -> None:
        """The extension may end at once when it is told: what it has subscribed to goes first."""
        tell = self._untapped[DeliverShutdown]
        if self._telemetry is None:
            tell(command)
        else:
            self._telemetry.when_delivered(lambda: tell(command))
