"""Which members go with which package type, and which runtimes exist (lambda.md §1.1, §1.5, §1.11)."""

from __future__ import annotations

from dataclasses import dataclass

from rie.code.s3 import S3Object
from rie.functions.faults import refused
from rie.functions.uploads import Source
from rie.model.function import ZIP

RUNTIMES = (
    *("nodejs16.x", "nodejs18.x", "nodejs20.x", "nodejs22.x", "nodejs24.x"),
    *("python3.8", "python3.9", "python3.10", "python3.11", "python3.12", "python3.13", "python3.14"),
    *("java8.al2", "java11", "java17", "java21", "java25"),
    *("dotnet6", "dotnet8", "dotnet10"),
    *("ruby3.2", "ruby3.3", "ruby3.4"),
    *("provided.al2", "provided.al2023"),
)
"""Runtimes that a function may be created with or moved to, recorded January 2026."""

BLOCKED_RUNTIMES = (
    *("nodejs", "nodejs4.3", "nodejs4.3-edge", "nodejs6.10", "nodejs8.10", "nodejs10.x", "nodejs12.x", "nodejs14.x"),
    *("python2.7", "python3.6", "python3.7", "ruby2.5", "ruby2.7", "java8", "go1.x", "provided"),
    *("dotnetcore1.0", "dotnetcore2.0", "dotnetcore2.1", "dotnetcore3.1"),
)


@dataclass(frozen=True, slots=True)
class Package:
    """What a caller says about a function's code. Empty strings and lists count as not given."""

    package_type: str = ZIP
    runtime: str | None = None
    handler: str | None = None
    layers: tuple[str, ...] = ()
    image_uri: str | None = None
    zip_file: bytes | None = None
    s3_bucket: str | None = None
    s3_key: str | None = None
    s3_version: str | None = None
    has_image_config: bool = False

    @property
    def has_zip(self) -> bool:
        """Whether it names an archive, or a place in S3, or a part of one."""
        return bool(self.zip_file or self.s3_bucket or self.s3_key or self.s3_version)


def check_new(package: Package) -> Source | None:
    """Where the code of a function to be created from this comes from; None: from its image. Raises ServiceError."""
    if package.package_type == ZIP:
        if not package.runtime or not package.handler:
            raise refused(
                "Runtime and Handler are mandatory parameters for functions created with deployment packages."
            )
        check_zip_only(package)
        if package.image_uri:
            raise refused("Please don't provide ImageUri when the intended function PackageType is Zip.")
        return source(package)
    check_image_only(package)
    if package.has_zip or not package.image_uri:
        raise refused("Please provide ImageUri when the intended function PackageType is Image.")
    return None


def check_update(package: Package, package_type: str) -> Source | None:
    """Where the new code of a function of this type comes from, as `check_new`. Raises ServiceError."""
    if package_type == ZIP:
        if package.image_uri:
            raise refused("Please don't provide ImageUri when updating a function with packageType Zip.")
        return source(package)
    if package.has_zip or not package.image_uri:
        raise refused("Please provide ImageUri when updating a function with packageType Image.")
    return None


def check_members(package: Package, package_type: str) -> None:
    """Raises ServiceError for members of a configuration that don't go with the function's type."""
    if package_type == ZIP:
        check_zip_only(package)
    else:
        check_image_only(package)


def check_image_only(package: Package) -> None:
    """What only makes sense with a zip may not be said of an image. Raises ServiceError."""
    if package.runtime:
        check_runtime(package.runtime)
    if package.runtime or package.handler or package.layers:
        raise refused(
            "Please don't provide Handler or Runtime or Layer when the intended function PackageType is Image."
        )


def check_zip_only(package: Package) -> None:
    """And what only makes sense with an image may not be said of a zip. Raises ServiceError."""
    if package.runtime:
        check_runtime(package.runtime)
    if package.has_image_config:
        raise refused("Please don't provide ImageConfig when the intended function PackageType is Zip.")


def source(package: Package) -> Source:
    """The one place that an archive is said to come from. Raises ServiceError for none, and for more than one."""
    if package.zip_file:
        if package.s3_bucket or package.s3_key or package.s3_version:
            raise refused("Please do not provide other FunctionCode parameters when providing a ZipFile.")
        return Source(zip_file=package.zip_file)
    if not package.s3_bucket or not package.s3_key:
        raise refused("Please provide a source for function code.")
    return Source(s3_object=S3Object(package.s3_bucket, package.s3_key, package.s3_version))


def check_runtime(runtime: str) -> None:
    """Raises ServiceError for a runtime that never was, and for one that is no more."""
    if runtime in BLOCKED_RUNTIMES:
        raise refused(
            f"The runtime parameter of {runtime} is no longer supported for creating or updating AWS Lambda functions. "
            "We recommend you use a supported runtime while creating or updating functions."
        )
    if runtime not in RUNTIMES:
        raise refused(
            f"Value {runtime} at 'runtime' failed to satisfy constraint: "
            f"Member must satisfy enum value set: [{', '.join(RUNTIMES)}] or be a valid ARN"
        )
