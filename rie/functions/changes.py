"""What a caller may ask of a function, and the records that follow from it; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from rie.functions import rules
from rie.functions.faults import refused
from rie.model.code import Archive, FileSystem, UsedLayer
from rie.model.function import (
    IMAGE,
    Configuration,
    DurableConfig,
    Function,
    FunctionKey,
    ImageConfig,
    Logging,
    ManagedInstances,
    Vpc,
)
from rie.model.image import Image

T = TypeVar("T")

CREATING = "The function is being created."


@dataclass(frozen=True, slots=True)
class DurableChanges:
    """Members of DurableConfig to set; None leaves one as it is, or at its default."""

    execution_timeout_s: int | None = None
    retention_days: int | None = None
    kms_key_arn: str | None = None

    def over(self, current: DurableConfig) -> DurableConfig:
        """The configuration with these in it."""
        return DurableConfig(
            _either(self.execution_timeout_s, current.execution_timeout_s),
            _either(self.retention_days, current.retention_days),
            _either(self.kms_key_arn, current.kms_key_arn) or None,
        )


@dataclass(frozen=True, slots=True)
class Changes:
    """Members to set; None leaves one as it is.

    Taken away by: `variables` {}, `image_config` ImageConfig(), `vpc` Vpc(), `layers` and `file_systems` (),
    `dead_letter_arn` and `kms_key_arn` "".
    `logging` is merged member by member, empty ones keep what is there.
    """

    role: str | None = None
    description: str | None = None
    timeout_s: int | None = None
    memory_mb: int | None = None
    ephemeral_storage_mb: int | None = None
    variables: Mapping[str, str] | None = None
    image_config: ImageConfig | None = None
    logging: Logging | None = None
    vpc: Vpc | None = None
    dead_letter_arn: str | None = None
    kms_key_arn: str | None = None
    tracing_mode: str | None = None
    runtime: str | None = None
    handler: str | None = None
    layers: tuple[UsedLayer, ...] | None = None
    file_systems: tuple[FileSystem, ...] | None = None
    snap_start: str | None = None
    managed: ManagedInstances | None = None
    durable: DurableChanges | None = None


@dataclass(frozen=True, slots=True)
class NewFunction:
    """A function to be made; `changes` are applied to the service's defaults, and name at least the role.

    The code is an `archive` that was kept, or what `image_uri` names.
    """

    key: FunctionKey
    image_uri: str
    changes: Changes
    architecture: str = "x86_64"
    tags: Mapping[str, str] = field(default_factory=dict)
    is_published: bool = False
    package_type: str = IMAGE
    archive: Archive | None = None
    source_kms_key_arn: str | None = None
    is_latest_published: bool = False  # that version becomes $LATEST.PUBLISHED
    tenancy_mode: str | None = None


@dataclass(frozen=True, slots=True)
class NewCode:
    """A function's code to be replaced, as in NewFunction; `architecture` None keeps the one it has."""

    key: FunctionKey
    image_uri: str
    architecture: str | None = None
    revision_id: str | None = None
    is_dry_run: bool = False
    is_published: bool = False
    archive: Archive | None = None
    source_kms_key_arn: str | None = None
    is_latest_published: bool = False


@dataclass(frozen=True, slots=True)
class Stamp:
    """What makes one state of a function different from every other."""

    revision_id: str
    configuration_id: str
    at: str  # as the API spells it


def check(changes: Changes) -> None:
    """Raises ServiceError for what breaks a rule whatever the function is."""
    if changes.memory_mb is not None:
        rules.check_memory(changes.memory_mb)
    if changes.variables is not None:
        rules.check_variables(changes.variables)
    if changes.dead_letter_arn is not None:
        rules.check_dead_letter(changes.dead_letter_arn)


def created(new: NewFunction, image: Image | None, stamp: Stamp) -> Function:
    """The record of a function just made: Pending (lambda.md §1.1)."""
    configuration = Configuration(
        configuration_id=stamp.configuration_id,
        role=new.changes.role or "",
        image_uri=new.image_uri,
        image=image,
        architecture=new.architecture,
        # Here, and only here, an explicit {} is remembered and echoed (lambda.md §1.2).
        variables=new.changes.variables,
        logging=Logging(group=f"/aws/lambda/{new.key.name}"),
        package_type=new.package_type,
        archive=new.archive,
        source_kms_key_arn=new.source_kms_key_arn or None,
    )
    bare = Function(
        key=new.key,
        configuration=_configured(configuration, replace(new.changes, variables=None)),
        serving=None,
        revision_id=stamp.revision_id,
        last_modified=stamp.at,
        tags=new.tags,
        state_reason=CREATING,
        state_reason_code="Creating",
        tenancy_mode=new.tenancy_mode,
        managed=new.changes.managed,
        durable=DurableConfig() if new.changes.durable is not None else None,
    )
    return _described(bare, new.changes)


def reconfigured(function: Function, changes: Changes, stamp: Stamp) -> Function:
    """The record of a function whose update has begun (lambda.md §1.4)."""
    if changes.managed is not None and function.managed is None:
        raise refused("CapacityProviderConfig isn't supported for Lambda Default functions.")
    if changes.durable is not None and function.durable is None:
        raise refused("DurableConfig can only be set when a function is created; create a new one to make it durable.")
    wanted = _configured(function.configuration, changes)
    return _described(_updating(function, wanted, stamp), changes)


def recoded(function: Function, code: NewCode, image: Image | None, stamp: Stamp) -> Function:
    """The record of a function whose code is being replaced (lambda.md §1.5), on its runtime's newest image."""
    wanted = replace(
        function.configuration,
        image_uri=code.image_uri,
        image=image,
        architecture=code.architecture or function.configuration.architecture,
        archive=code.archive,
        source_kms_key_arn=code.source_kms_key_arn or None,
    )
    rules.check_together(wanted)
    return _updating(function, wanted, stamp)


def deployed(function: Function, revision_id: str, image: Image | None = None) -> Function:
    """The record of a function whose newest configuration serves from now on, on `image` if that was looked up now."""
    configuration = replace(function.configuration, image=image or function.configuration.image)
    return replace(
        function,
        configuration=configuration,
        serving=configuration,
        revision_id=revision_id,
        state="Active",
        state_reason=None,
        state_reason_code=None,
        last_update_status="Successful",
        last_update_status_reason=None,
        last_update_status_reason_code=None,
    )


def failed(function: Function, revision_id: str, code: str, reason: str) -> Function:
    """The record of a function whose newest configuration can't be deployed: what served before goes on serving."""
    after = replace(
        function,
        revision_id=revision_id,
        last_update_status="Failed",
        last_update_status_reason=reason,
        last_update_status_reason_code=code,
    )
    if function.serving is not None:
        return after
    return replace(after, state="Failed", state_reason=reason, state_reason_code=code)


def _configured(configuration: Configuration, changes: Changes) -> Configuration:
    """The configuration with its own part of the changes in it."""
    after = replace(
        configuration,
        role=_either(changes.role, configuration.role),
        timeout_s=_either(changes.timeout_s, configuration.timeout_s),
        memory_mb=_either(changes.memory_mb, configuration.memory_mb),
        ephemeral_storage_mb=_either(changes.ephemeral_storage_mb, configuration.ephemeral_storage_mb),
        image_config=_either(changes.image_config, configuration.image_config),
        vpc=_either(changes.vpc, configuration.vpc),
        runtime=_either(changes.runtime, configuration.runtime),
        handler=_either(changes.handler, configuration.handler),
        layers=_either(changes.layers, configuration.layers),
        file_systems=_either(changes.file_systems, configuration.file_systems),
        snap_start=_either(changes.snap_start, configuration.snap_start),
    )
    if after.runtime != configuration.runtime:
        after = replace(after, image=None)  # that of another runtime
    if changes.variables is not None:
        after = replace(after, variables=changes.variables or None)
    if changes.logging is not None:
        after = replace(after, logging=rules.merge_logging(configuration.logging, changes.logging))
    rules.check_together(after)
    return after


def _described(function: Function, changes: Changes) -> Function:
    """The function with that part of the changes in it that environments know nothing of."""
    after = replace(
        function,
        description=_either(changes.description, function.description),
        tracing_mode=_either(changes.tracing_mode, function.tracing_mode),
        managed=_either(changes.managed, function.managed),
        durable=changes.durable.over(function.durable) if changes.durable and function.durable else function.durable,
    )
    if changes.dead_letter_arn is not None:
        after = replace(after, dead_letter_arn=changes.dead_letter_arn or None)
    if changes.kms_key_arn is not None:
        after = replace(after, kms_key_arn=changes.kms_key_arn or None)
    return after


def _updating(function: Function, wanted: Configuration, stamp: Stamp) -> Function:
    """Every update, even one that changes nothing, makes a new configuration: the service starts afresh as well."""
    after = replace(
        function,
        configuration=replace(wanted, configuration_id=stamp.configuration_id),
        revision_id=stamp.revision_id,
        last_modified=stamp.at,
        last_update_status="InProgress",
        last_update_status_reason=CREATING,
        last_update_status_reason_code="Creating",
    )
    if function.serving is not None:
        return after
    # It failed when it was made: this is its second first time.
    return replace(after, state="Pending", state_reason=CREATING, state_reason_code="Creating")


def _either(wanted: T | None, current: T) -> T:
    return current if wanted is None else wanted
