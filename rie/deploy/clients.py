"""Who is asked: the manager for Lambda, and for everything else the endpoint that boto3's settings name."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from rie.aws import has_endpoint
from rie.deploy.images import Build
from rie.deploy.packaging import Archives
from rie.errors import DeployFailed

LOCAL_KEYS = {"aws_access_key_id": "local", "aws_secret_access_key": "local"}
# AWS has no such thing as a local account: what a deployment makes there costs money, so it is asked for by name.
RECORDED_ONLY = frozenset({"iam", "logs"})


@dataclass
class Clients:
    """boto3 clients, made once each. `manager`: its endpoint; `archives`: local code; `builds`: images to build."""

    manager: str
    region: str
    archives: Archives = field(default_factory=Archives)
    builds: dict[str, Build] = field(default_factory=dict)
    account: str = ""
    _made: dict[str, Any] = field(default_factory=dict)

    def get(self, service: str) -> Any:
        """The client of a service ("sqs")."""
        if service not in self._made:
            self._made[service] = self._make(service)
        return self._made[service]

    def has(self, service: str) -> bool:
        """Whether somebody stands for the service."""
        if service == "lambda":
            return True
        endpoint = self.get(service).meta.endpoint_url.rstrip("/")
        if endpoint == self.manager:
            return False  # AWS_ENDPOINT_URL names the manager, which answers for Lambda and STS
        return has_endpoint(service) or ".amazonaws.com" not in endpoint

    def learn_account(self) -> str:
        """The manager's account. Raises DeployFailed where it doesn't answer."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self.account = str(self._client("sts", endpoint_url=self.manager).get_caller_identity()["Account"])
        except (BotoCoreError, ClientError) as error:
            why = f"{error}; is `rie serve` running?"
            raise DeployFailed(f"cannot reach the manager at {self.manager}: {why}") from None
        return self.account

    @cached_property
    def _session(self) -> Any:
        """One for all: each reads the services' models anew."""
        import boto3

        return boto3.Session()

    def _make(self, service: str) -> Any:
        return self._client(service, **({"endpoint_url": self.manager} if service == "lambda" else {}))

    def _client(self, service: str, **options: Any) -> Any:
        from botocore.config import Config

        session = self._session
        if session.get_credentials() is None:
            options |= LOCAL_KEYS
        config = Config(
            read_timeout=120,
            retries={"mode": "standard", "total_max_attempts": 3},
            s3={"addressing_style": "path"} if has_endpoint("s3") else None,
        )
        return session.client(service, region_name=self.region, config=config, **options)
