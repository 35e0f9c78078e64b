"""A function as it is stored: what was asked for, what serves invocations now, and its state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rie.model.code import Archive, FileSystem, UsedLayer
from rie.model.image import Image

LATEST = "$LATEST"
ZIP = "Zip"
IMAGE = "Image"
LATEST_PUBLISHED = "$LATEST.PUBLISHED"
PER_TENANT = "PER_TENANT"


@dataclass(frozen=True, slots=True)
class FunctionKey:
    """What names a function: unique per account and region."""

    account: str
    region: str
    name: str

    @property
    def arn(self) -> str:
        """The unqualified ARN."""
        return f"arn:aws:lambda:{self.region}:{self.account}:function:{self.name}"


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """Overrides of the image's ENTRYPOINT, CMD and WORKDIR; None where the image's own holds."""

    entry_point: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    working_directory: str | None = None


@dataclass(frozen=True, slots=True)
class Logging:
    """Where an environment's lines go, and how they look."""

    group: str
    format: str = "Text"
    application_level: str | None = None
    system_level: str | None = None


@dataclass(frozen=True, slots=True)
class Vpc:
    """The network attachment that was asked for; both lists empty once it was taken away again."""

    subnet_ids: tuple[str, ...] = ()
    security_group_ids: tuple[str, ...] = ()
    ipv6_allowed: bool = False


@dataclass(frozen=True, slots=True)
class Configuration:
    """All that an environment is made from. Any change of it makes a new one, with a new `configuration_id`.

    Of a zip function, `image` is its runtime's, None until that was looked up; it has no `image_uri`, but `runtime`,
    `handler` and `archive`.
    """

    configuration_id: str
    role: str
    image_uri: str
    image: Image | None
    timeout_s: int = 3
    memory_mb: int = 128
    ephemeral_storage_mb: int = 512
    architecture: str = "x86_64"
    variables: Mapping[str, str] | None = None
    image_config: ImageConfig = field(default_factory=ImageConfig)
    logging: Logging = field(default_factory=lambda: Logging(group=""))
    vpc: Vpc | None = None
    package_type: str = IMAGE
    runtime: str | None = None
    handler: str | None = None
    archive: Archive | None = None
    source_kms_key_arn: str | None = None
    layers: tuple[UsedLayer, ...] = ()
    file_systems: tuple[FileSystem, ...] = ()
    snap_start: str = "None"

    @property
    def is_zip(self) -> bool:
        """Whether its code is an archive, put over its runtime's image."""
        return self.package_type == ZIP

    @property
    def code_sha256(self) -> str:
        """What tells this code from other code, as the API shows it."""
        if self.archive is not None:
            return self.archive.code_sha256
        return self.image.digest.removeprefix("sha256:") if self.image is not None else ""

    @property
    def archives(self) -> tuple[Archive, ...]:
        """All that is unpacked for it: its own code, and the layers in their order."""
        own = () if self.archive is None else (self.archive,)
        return (*own, *(layer.archive for layer in self.layers))


@dataclass(frozen=True, slots=True)
class ManagedInstances:
    """The capacity provider that a function asked to run on; here it runs where all others do (lambda.md §13.3)."""

    capacity_provider_arn: str
    max_concurrency: int | None = None  # of one environment
    memory_gib_per_vcpu: float | None = None


@dataclass(frozen=True, slots=True)
class DurableConfig:
    """How long executions of a durable function may take, and for how long they are kept (lambda.md §13.1)."""

    execution_timeout_s: int = 86_400
    retention_days: int = 30
    kms_key_arn: str | None = None


@dataclass(frozen=True, slots=True)
class Function:
    """One version of a function; $LATEST is the one that can be changed.

    `configuration` is the newest that was asked for; `serving` the newest that could be deployed, which is what
    invocations run (None until the first deployment ended well). `last_modified` is as the API spells it
    ("2025-11-25T02:26:54.123+0000"). Tags are $LATEST's alone. `last_version`, of $LATEST, is the highest number that
    was ever published, 0 for none; `published_description`, of a version, what $LATEST's description was then.
    `latest_published`, of $LATEST, is the version that was published as $LATEST.PUBLISHED, "" for none.
    `tenancy_mode` is None or "PER_TENANT". `is_optimised`, of a version: it has a snapshot (SnapStart).
    """

    key: FunctionKey
    configuration: Configuration
    serving: Configuration | None
    revision_id: str
    last_modified: str
    version: str = LATEST
    description: str = ""
    tracing_mode: str = "PassThrough"
    tags: Mapping[str, str] = field(default_factory=dict)
    state: str = "Pending"
    state_reason: str | None = None
    state_reason_code: str | None = None
    last_update_status: str | None = None
    last_update_status_reason: str | None = None
    last_update_status_reason_code: str | None = None
    dead_letter_arn: str | None = None
    kms_key_arn: str | None = None
    last_version: int = 0
    published_description: str = ""
    latest_published: str = ""
    tenancy_mode: str | None = None
    managed: ManagedInstances | None = None
    durable: DurableConfig | None = None
    is_optimised: bool = False

    @property
    def takes_snapshot(self) -> bool:
        """Whether its environments shall be made from a snapshot: a version's, if that was asked for."""
        return self.version != LATEST and self.configuration.snap_start != "None"

    @property
    def is_pending(self) -> bool:
        """Whether nothing of it could be deployed yet."""
        return self.state == "Pending"

    @property
    def is_updating(self) -> bool:
        """Whether an update is being deployed; the previous configuration serves meanwhile."""
        return self.last_update_status == "InProgress"
