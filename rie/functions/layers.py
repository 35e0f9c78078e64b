"""Layers: published, listed, granted to others, resolved for functions that name them (lambda.md §12.1 to §12.3)."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from rie.arn import Scope
from rie.clock import Clock, with_milliseconds
from rie.errors import ServiceError
from rie.functions.faults import refused
from rie.functions.ledger import Ledger
from rie.model.code import Archive, UsedLayer
from rie.model.layer import LAYERS, Grant, Layer, LayerVersion, layer_arn
from rie.model.record import Place

MAX_LAYERS = 5  # AWS limit
MAX_POLICY = 20_480  # bytes, AWS limit
MAX_NAME = 140  # AWS limit; names within ARNs of versions are not bounded by the model's pattern
NOT_THERE = "The resource you requested does not exist."

_ARN = re.compile(
    r"arn:[a-zA-Z0-9-]+:lambda:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):layer:(?P<name>[a-zA-Z0-9-_]+)"
    r"(?::(?P<version>\d+))?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class NewVersion:
    """What a caller says about a version; lists that were not given are None."""

    description: str = ""
    license_info: str | None = None
    runtimes: tuple[str, ...] | None = None
    architectures: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Filters:
    """Which versions a list shall have; None for any."""

    runtime: str | None = None
    architecture: str | None = None

    def takes(self, version: LayerVersion) -> bool:
        """Whether a version says that it is for these. What says nothing is for none in particular."""
        by_runtime = self.runtime is None or self.runtime in (version.runtimes or ())
        return by_runtime and (self.architecture is None or self.architecture in (version.architectures or ()))


class Layers:
    """Blocks; may be called from any thread. `scope` is whoever asks. Raises ServiceError, StoreFailed."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    def publish(self, place: Place, archive: Archive, new: NewVersion) -> LayerVersion:
        """One version more, whatever is in it."""
        made: list[LayerVersion] = []

        def decide(current: Layer | None) -> Layer:
            layer = current or Layer()
            version = LayerVersion(
                version=layer.last_version + 1,
                archive=archive,
                created_at=with_milliseconds(self._clock.now()),
                description=new.description,
                license_info=new.license_info,
                runtimes=new.runtimes,
                architectures=new.architectures,
            )
            made[:] = [version]
            return Layer(version.version, (*layer.versions, version))

        self._ledger.change(LAYERS, place, decide)
        return made[0]

    def get(self, place: Place, version: int, scope: Scope, caller: str) -> LayerVersion:
        """One version, if the caller's account may have it."""
        if version < 1:
            raise refused("Layer Version Cannot be less than 1")
        found = self._find(place, version)
        if place.account != scope.account and not (found and _is_granted(found, scope.account)):
            raise _not_granted(f"{layer_arn(place)}:{version}", caller)
        if found is None:
            raise ServiceError("ResourceNotFoundException", NOT_THERE)
        return found

    def delete(self, place: Place, version: int) -> None:
        """Take a version away; fine if it is not there. The layer's record stays, so that no number comes again."""
        if version < 1:
            raise refused("Layer Version Cannot be less than 1")

        def decide(current: Layer | None) -> Layer | None:
            if current is None:
                return None
            return replace(current, versions=tuple(each for each in current.versions if each.version != version))

        if self._find(place, version) is not None:
            self._ledger.change(LAYERS, place, decide)

    def versions(self, place: Place, filters: Filters) -> list[LayerVersion]:
        """Those that the filters take, the newest first; none of a layer that is not there."""
        layer = self._ledger.find(LAYERS, place) or Layer()
        return [version for version in reversed(layer.versions) if filters.takes(version)]

    def page(
        self, scope: Scope, filters: Filters, after: str, limit: int
    ) -> tuple[list[tuple[Place, LayerVersion]], bool]:
        """Up to `limit` layers whose names follow `after`, each with its newest version that the filters take.

        Layers without such a version are left out. The second is whether there are more.
        """
        found: list[tuple[Place, LayerVersion]] = []
        for place, layer in self._following(scope, after):
            version = next((each for each in reversed(layer.versions) if filters.takes(each)), None)
            if version is None:
                continue
            if len(found) == limit:
                return found, True
            found.append((place, version))
        return found, False

    def resolve(
        self, arns: Sequence[str], scope: Scope, caller: str, keep: Iterable[UsedLayer] = ()
    ) -> tuple[UsedLayer, ...]:
        """What a function is to have that names these versions; `keep` what it has, deleted or not.

        Raises ServiceError for each violation of lambda.md §12.3.
        """
        if len(arns) > MAX_LAYERS:
            raise refused(f"Cannot reference more than {MAX_LAYERS} layers.")
        kept = {layer.arn: layer for layer in keep}
        by_layer: dict[str, str] = {}
        used: list[UsedLayer] = []
        for arn in arns:
            place, version = read_arn(arn)
            if place.region != scope.region:
                raise refused(
                    "Layers are not in the same region as the function. "
                    f"Layers are expected to be in region {scope.region}."
                )
            earlier = by_layer.setdefault(layer_arn(place), arn)
            if len(by_layer) == len(used):
                raise refused(
                    "Two different versions of the same layer are not allowed to be referenced in the same function. "
                    f"{arn} and {earlier} are versions of the same layer."
                )
            used.append(kept.get(arn) or self._use(place, version or 0, arn, scope, caller))
        return tuple(used)

    def grant(self, place: Place, version: int, grant: Grant, revision_id: str | None) -> LayerVersion:
        """Add a statement to a version's policy. Raises ServiceError."""

        def decide(current: LayerVersion) -> LayerVersion:
            _check_revision(current, revision_id)
            if any(each.statement_id == grant.statement_id for each in current.grants):
                raise ServiceError(
                    "ResourceConflictException",
                    f"The statement id ({grant.statement_id}) provided already exists. "
                    "Please provide a new statement id, or remove the existing statement.",
                )
            grants = (*current.grants, grant)
            size = len(json.dumps([statement(f"{layer_arn(place)}:{version}", each) for each in grants]))
            if size > MAX_POLICY:
                raise ServiceError(
                    "PolicyLengthExceededException", f"The final policy size ({size}) is bigger than {MAX_POLICY}."
                )
            return replace(current, grants=grants, policy_revision_id=str(uuid.uuid4()))

        return self._change(place, version, decide)

    def revoke(self, place: Place, version: int, statement_id: str, revision_id: str | None) -> None:
        """Take a statement away. Raises ServiceError."""

        def decide(current: LayerVersion) -> LayerVersion:
            _check_policy(current)
            _check_revision(current, revision_id)
            left = tuple(each for each in current.grants if each.statement_id != statement_id)
            if len(left) == len(current.grants):
                raise ServiceError(
                    "ResourceNotFoundException", f"Statement {statement_id} is not found in resource policy."
                )
            return replace(current, grants=left, policy_revision_id=str(uuid.uuid4()))

        self._change(place, version, decide)

    def granted(self, place: Place, version: int) -> LayerVersion:
        """A version that has a policy. Raises ServiceError."""
        found = self._find(place, version)
        if found is None:
            raise _no_version(place, version)
        _check_policy(found)
        return found

    def all(self) -> list[tuple[Place, Layer]]:
        """Every layer of every account and region."""
        return self._ledger.all(LAYERS)

    def _following(self, scope: Scope, after: str) -> Iterator[tuple[Place, Layer]]:
        yield from self._ledger.page(LAYERS, scope.account, scope.region, after=("", after))

    def _find(self, place: Place, version: int) -> LayerVersion | None:
        layer = self._ledger.find(LAYERS, place)
        return layer.find(version) if layer else None

    def _use(self, place: Place, version: int, arn: str, scope: Scope, caller: str) -> UsedLayer:
        found = self._find(place, version)
        if place.account != scope.account and not (found and _is_granted(found, scope.account)):
            raise _not_granted(arn, caller)
        if found is None:
            raise refused(f"Layer version {arn} does not exist.")
        return UsedLayer(arn, found.archive)

    def _change(self, place: Place, number: int, decide: Callable[[LayerVersion], LayerVersion]) -> LayerVersion:
        made: list[LayerVersion] = []

        def within(current: Layer | None) -> Layer:
            found = current.find(number) if current else None
            if current is None or found is None:
                raise _no_version(place, number)
            made[:] = [decide(found)]
            versions = tuple(made[0] if each.version == number else each for each in current.versions)
            return replace(current, versions=versions)

        self._ledger.change(LAYERS, place, within)
        return made[0]


def statement(arn: str, grant: Grant) -> dict[str, object]:
    """A grant as policies spell it; `arn` is the version's."""
    principal = grant.principal
    if principal.isdecimal():
        principal = f"arn:aws:iam::{principal}:root"
    rendered: dict[str, object] = {
        "Sid": grant.statement_id,
        "Effect": "Allow",
        "Principal": "*" if principal == "*" else {"AWS": principal},
        "Action": "lambda:GetLayerVersion",
        "Resource": arn,
    }
    if grant.organization is not None:
        rendered["Condition"] = {"StringEquals": {"aws:PrincipalOrgID": grant.organization}}
    return rendered


def read_name(name: str, scope: Scope) -> Place:
    """The place of a layer by its name or its ARN. Raises ServiceError for one elsewhere."""
    found = _ARN.fullmatch(name)
    if found is None:
        return Place(scope.account, scope.region, "", name)
    if found["region"] != scope.region:
        raise refused(f"Layers are expected to be in region {scope.region}, not {found['region']}.")
    return Place(found["account"], found["region"], "", found["name"])


def read_arn(arn: str) -> tuple[Place, int]:
    """The place and the number of a version's ARN. Raises ServiceError for what is none here."""
    found = _ARN.fullmatch(arn)
    if found is None or not found["version"]:
        raise refused(f"Layer version {arn} does not exist.")  # AWS's own, arn:aws:lambda:::awslayer:…
    return Place(found["account"], found["region"], "", found["name"]), int(found["version"])


def _is_granted(version: LayerVersion, account: str) -> bool:
    """Whether a policy lets an account in. Who belongs to an organization is known to nobody here: those are not."""
    wanted = ("*", account, f"arn:aws:iam::{account}:root")
    return any(grant.principal in wanted and grant.organization is None for grant in version.grants)


def _check_policy(version: LayerVersion) -> None:
    if not version.grants:
        raise ServiceError("ResourceNotFoundException", "No policy is associated with the given resource.")


def _check_revision(version: LayerVersion, revision_id: str | None) -> None:
    if revision_id is not None and revision_id != version.policy_revision_id:
        raise ServiceError(
            "PreconditionFailedException",
            "The RevisionId provided does not match the latest RevisionId. "
            "Call the GetLayerPolicy API to retrieve the latest Revision Id",
        )


def _no_version(place: Place, version: int) -> ServiceError:
    return ServiceError("ResourceNotFoundException", f"Layer version {layer_arn(place)}:{version} does not exist.")


def _not_granted(arn: str, caller: str) -> ServiceError:
    return ServiceError(
        "AccessDeniedException",
        f"User: {caller} is not authorized to perform: lambda:GetLayerVersion on resource: {arn} "
        "because no resource-based policy allows the lambda:GetLayerVersion action",
    )
