"""Where the logs of environments go: files, and CloudWatch Logs where the settings want that."""

from __future__ import annotations

from urllib.parse import urlsplit

from rie.aws import Clients, endpoint_of
from rie.environments.environment import Environment
from rie.logs.bounds import MB, Bounds
from rie.logs.cloudwatch import CloudWatch
from rie.logs.delivery import Delivery
from rie.logs.files import LogFiles
from rie.logs.names import log_group
from rie.logs.writer import StreamWriter
from rie.settings import Settings

LOGS_LIMIT_S = 5.0  # what delivering the last log lines may take at the end


class Logs:
    """`files`: what is on disk; `delivery`: what brings it to CloudWatch Logs, None where it stays."""

    def __init__(self, settings: Settings, clients: Clients) -> None:
        bounds = Bounds(settings.log_function_mb * MB, settings.log_total_mb * MB, settings.log_retention_days)
        self.files = LogFiles(settings.data / "logs", bounds, settings.log_kb_per_s)
        self.delivery = _delivery(settings, clients)

    def undelivered(self) -> int:
        """Bytes that wait for CloudWatch Logs."""
        return 0 if self.delivery is None else len(self.delivery)

    def sink(self, environment: Environment) -> StreamWriter:
        """Where one environment writes."""
        key, configuration, stream = environment.function.key, environment.configuration, environment.log_stream
        group, also = log_group(key, configuration), None
        if self.delivery is not None:
            also = self.delivery.channel(key.region, configuration.role, group, stream, key.arn)
        return self.files.open(group, stream, key.arn, also)

    async def close(self) -> None:
        """Write and deliver what is left, for a while."""
        await self.files.close()
        if self.delivery is not None:
            await self.delivery.close(LOGS_LIMIT_S)


def _delivery(settings: Settings, clients: Clients) -> Delivery | None:
    """What brings logs to CloudWatch Logs; None where the settings don't want it, or would have it talk to itself."""
    endpoint = endpoint_of("logs")
    if settings.log_delivery == "off" or (settings.log_delivery == "auto" and not endpoint):
        return None
    if endpoint:
        url = urlsplit(endpoint)
        if url.port == settings.port and url.hostname in ("localhost", "127.0.0.1", "::1", settings.host):
            return None
    return Delivery(CloudWatch(lambda region, role: clients.client("logs", region, role)).put)
