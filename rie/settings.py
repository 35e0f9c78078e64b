"""The manager's settings: command-line flags over RIE_* variables over defaults, read once."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

import psutil

from rie.errors import SettingsError

MEMORY_SHARE = 0.9  # of the machine's memory may be promised to environments
MB = 1 << 20
ROLE_CREDENTIALS = ("auto", "own", "sts", "none")
KEEP_ALIVE = ("learned", "fixed")
LOG_DELIVERY = ("auto", "on", "off")
YES, NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
_SWITCHES = ("auth", "insecure_no_auth", "url_needs_invoke", "with_aws")
_NUMBERS = {
    "port": int,
    "aws_port": int,
    "concurrency": int,
    "unreserved": int,
    "memory_mb": int,
    "idle_s": float,
    "freeze_s": float,
    "images_unused_mb": int,
    "disk_free_mb": int,
    "drain_s": float,
    "async_delay_scale": float,
    "log_function_mb": int,
    "log_total_mb": int,
    "log_kb_per_s": int,
    "log_retention_days": float,
    "stream_mib_per_s": float,
}


def default_data() -> Path:
    """/var/lib/rie for root, else ~/.local/share/rie."""
    if os.geteuid() == 0:
        return Path("/var/lib/rie")
    return Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser() / "rie"


@dataclass(frozen=True, slots=True)
class Settings:
    """`engine` None: pick; `database` an SQLAlchemy URL, None for SQLite in `data`; `bundle` None: find or build it.

    `concurrency` is the account's limit on running invocations, of which `unreserved` can't be reserved; `memory_mb`
    what all environments together may be promised; `idle_s` how long an idle one is kept where `keep_alive` is "fixed",
    and where it is "learned" one whose arrivals say nothing yet; `freeze_s` how long it runs on before it is frozen
    (0: for ever); `images_unused_mb` what images may take that no function has, and `disk_free_mb` with how much free
    disk left they all go; `network` what functions reach: "bridge" the world, "none" nothing; `drain_s` how long
    running invocations may take at shutdown; `async_delay_scale` shortens what asynchronous retries wait for (0.01:
    0.6 s instead of a minute); `runtimes` "runtime=image …" for zip functions, over the table in `data`.

    `auth`: signatures are asked for, and held against `keys` (None: keys.json in `data`); `insecure_no_auth` says that
    they are not wanted although others can reach the port. `role_credentials`: where those of execution roles come
    from: "own" (issued here), "sts" (AssumeRole), "none", or "auto": "sts" where boto3's settings name an endpoint.
    `function_endpoint_url` is the AWS_ENDPOINT_URL of functions that set none, `function_lambda_url` their
    AWS_ENDPOINT_URL_LAMBDA: where they find this manager. `with_aws` runs an endpoint for AWS's
    other services beside the manager, on `aws_port` (0: the one after `port`, or any that is free). `routes` is a
    file of APIs that the gateway answers (rie/gateway/definitions.py).

    `urls` where callers reach function URLs ("https://example.com" for https://<id>.lambda-url.<region>.example.com/),
    empty for this listener by way of *.localhost; `url_needs_invoke`: their callers need lambda:InvokeFunction too, as
    the service asks of URLs made since October 2025; `stream_mib_per_s` how fast a streamed answer goes past its first
    6 MB (the service: 2), 0 for as fast as it can.

    `log_function_mb`, `log_total_mb`: what logs may take of the disk; `log_retention_days` how long a stream is kept
    after its last line, 0 without end; `log_kb_per_s` how much of a function's output is read, more is dropped;
    `log_delivery`: "on", "off", or "auto": to CloudWatch Logs where boto3's settings name an endpoint for it.
    """

    host: str = "127.0.0.1"
    port: int = 9000
    engine: str | None = None
    data: Path = Path("/var/lib/rie")
    database: str | None = None
    bundle: Path | None = None
    account: str = "123456789012"
    region: str = "us-east-1"
    concurrency: int = 1_000
    unreserved: int = 100
    memory_mb: int = 0
    idle_s: float = 600.0
    keep_alive: str = "learned"
    freeze_s: float = 0.1
    images_unused_mb: int = 10_000
    disk_free_mb: int = 2_000
    network: str = "bridge"
    drain_s: float = 20.0
    auth: bool = False
    insecure_no_auth: bool = False
    keys: Path | None = None
    role_credentials: str = "auto"
    function_endpoint_url: str | None = None
    function_lambda_url: str | None = None
    async_delay_scale: float = 1.0
    log_function_mb: int = 256
    log_total_mb: int = 2_048
    log_retention_days: float = 0.0
    log_kb_per_s: int = 2_048
    log_delivery: str = "auto"
    runtimes: str = ""
    urls: str = ""
    url_needs_invoke: bool = False
    stream_mib_per_s: float = 0.0
    with_aws: bool = False
    aws_port: int = 0
    routes: Path | None = None

    def __post_init__(self) -> None:
        if not (self.auth or self.insecure_no_auth or _is_loopback(self.host)):
            raise SettingsError(
                f"cannot listen on {self.host} without authentication: whoever reaches it could deploy and run code. "
                "Give --auth (keys: rie keys --help), or --insecure-no-auth where everybody who can reach it may"
            )
        if self.role_credentials not in ROLE_CREDENTIALS:
            raise SettingsError(
                f"cannot use role credentials {self.role_credentials!r}: choose one of {', '.join(ROLE_CREDENTIALS)}"
            )
        if self.keep_alive not in KEEP_ALIVE:
            raise SettingsError(f"cannot keep environments {self.keep_alive!r}: choose one of {', '.join(KEEP_ALIVE)}")
        self._check_logs()
        if not 0 <= self.port < 65_536:
            raise SettingsError(f"cannot listen on port {self.port}: it is not between 0 and 65535")
        if not 0 <= self.aws_port < 65_536:
            raise SettingsError(f"cannot use port {self.aws_port} for AWS's services: it is not between 0 and 65535")
        if min(self.drain_s, self.freeze_s, self.unreserved, self.stream_mib_per_s) < 0 or self.idle_s <= 0:
            raise SettingsError(
                "cannot use these limits: idle must be above 0, drain, freeze, unreserved and rate not below"
            )
        if self.concurrency < 1:
            raise SettingsError("cannot use these limits: concurrency must be above 0")
        if min(self.images_unused_mb, self.disk_free_mb) < 0:
            raise SettingsError("cannot keep images within such bounds: they must not be below 0")
        if not 0 < self.async_delay_scale <= 1:
            raise SettingsError("cannot scale the delays of asynchronous retries: the factor must be above 0, up to 1")
        if not (len(self.account) == 12 and self.account.isdigit()):
            raise SettingsError(f"cannot use account {self.account!r}: it is not 12 digits")

    def _check_logs(self) -> None:
        if self.log_delivery not in LOG_DELIVERY:
            raise SettingsError(
                f"cannot use log delivery {self.log_delivery!r}: choose one of {', '.join(LOG_DELIVERY)}"
            )
        if min(self.log_function_mb, self.log_total_mb, self.log_kb_per_s) < 1 or self.log_retention_days < 0:
            raise SettingsError("cannot keep logs within such bounds: they must be 1 or more (days: 0 or more)")

    @property
    def is_on_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return _is_loopback(self.host)

    @property
    def keys_path(self) -> Path:
        """Where the access keys are."""
        return self.keys or self.data / "keys.json"

    @property
    def url_pattern(self) -> str:
        """How function URLs are spelt, with {url_id} and {region} in it."""
        scheme, _, domain = (self.urls.rstrip("/") or f"http://localhost:{self.port}").rpartition("://")
        return f"{scheme or 'http'}://{{url_id}}.lambda-url.{{region}}.{domain}/"

    @property
    def database_url(self) -> str:
        """Where functions are kept."""
        return self.database or f"sqlite:///{self.data / 'rie.db'}"


def read(environ: Mapping[str, str], **flags: object) -> Settings:
    """Settings from the environment, with flags (None: not given) over them. Raises SettingsError."""
    values: dict[str, object] = {
        "data": default_data(),
        "memory_mb": int(psutil.virtual_memory().total / MB * MEMORY_SHARE),
    }
    for field in fields(Settings):
        text = environ.get(f"RIE_{field.name.upper()}")
        if text:
            values[field.name] = _convert(field.name, text)
    values |= {name: value for name, value in flags.items() if value is not None}
    if "idle_s" in values:
        values.setdefault("keep_alive", "fixed")  # who says how long means it
    return replace(Settings(), **values)  # type: ignore[arg-type]


def _convert(name: str, text: str) -> object:
    kind = _NUMBERS.get(name)
    if name in ("data", "bundle", "keys", "routes"):
        return Path(text).expanduser()
    if name in _SWITCHES:
        if text.lower() not in YES + NO:
            raise SettingsError(f"cannot read RIE_{name.upper()}: {text!r} is neither 1 nor 0")
        return text.lower() in YES
    if kind is None:
        return text
    try:
        return kind(text)
    except ValueError:
        raise SettingsError(f"cannot read RIE_{name.upper()}: {text!r} is not a number") from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
