"""Every error that this package raises.

    RieError                      the root; its text reads "cannot <do what>: <why, with values>"
    ├── HostFault                 this machine, its engine or a registry failed; a caller sees ServiceException (500)
    │   ├── EngineUnavailable     the container engine does not answer
    │   ├── RegistryUnavailable   the registry does not answer
    │   ├── SandboxFailed         a sandbox did not start, died, or stopped answering
    │   ├── CredentialsUnavailable  no credentials for an execution role
    │   ├── DiskFull              no space is left where images or sandboxes are kept
    │   └── StoreFailed           the database refused
    ├── ImageFault                what the user named as an image can't be used
    │   ├── ImageNotFound         no such repository, tag or digest
    │   ├── ImageAccessDenied     the registry refused our credentials
    │   └── ImageInvalid          wrong platform, bad manifest, digest mismatch, broken layer
    ├── InitFailed                a function did not initialise where its snapshot was to be taken
    ├── ArchiveInvalid            an archive of code can't be unpacked, or must not be
    ├── RuntimeUnavailable        no image is known for a runtime, or it is not there
    ├── SettingsError             a setting can't be read
    ├── TemplateInvalid           a template can't be deployed, and nothing of it was
    ├── DeployFailed              a deployment stopped on its way; what was done is kept
    └── ServiceError              an answer of the Lambda API other than success (code, status, message)

A function that fails is none of these: it is a *result* (`rie.model.invocation.Outcome`).
"""

from __future__ import annotations


class RieError(Exception):
    """The root of this package's errors."""


class HostFault(RieError):
    """This machine, its engine or a registry failed."""


class EngineUnavailable(HostFault):
    """The container engine does not answer."""


class RegistryUnavailable(HostFault):
    """The registry does not answer, or answers with an error of its own."""


class SandboxFailed(HostFault):
    """A sandbox did not start, died, or stopped answering."""


class CredentialsUnavailable(HostFault):
    """Nobody answers who could give credentials for an execution role."""


class DiskFull(HostFault):
    """No space is left where images or sandboxes are kept."""


class StoreFailed(HostFault):
    """The database refused a read or a write."""


class ImageFault(RieError):
    """What the user named as an image can't be used; `reference` is that name."""

    def __init__(self, reference: str, why: str) -> None:
        super().__init__(f"cannot use image {reference}: {why}")
        self.reference = reference
        self.why = why


class ImageNotFound(ImageFault):
    """No such repository, tag or digest."""


class ImageAccessDenied(ImageFault):
    """The registry refused our credentials."""


class ImageInvalid(ImageFault):
    """Wrong platform, bad manifest, digest mismatch, or a broken layer."""


class InitFailed(RieError):
    """A function did not initialise where its snapshot was to be taken; `code` is the StateReasonCode of that."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(f"cannot initialise the function: {why}")
        self.code = code


class ArchiveInvalid(RieError):
    """An archive of code can't be used; `answer` is what the service says of it, `why` what is wrong with this one."""

    def __init__(self, answer: str, why: str = "") -> None:
        super().__init__(f"cannot unpack an archive: {why or answer}")
        self.answer = answer
        self.why = why


class RuntimeUnavailable(RieError):
    """No image is known for a runtime, or it is not there."""


class SettingsError(RieError):
    """A setting can't be read."""


class TemplateInvalid(RieError):
    """A template can't be deployed, and nothing of it was."""


class DeployFailed(RieError):
    """A deployment stopped on its way; its text says what was done and how to go on."""


class ServiceError(RieError):
    """An error answer of the Lambda API.

    `code` is the exception's name in the service model ("ResourceNotFoundException") or one of the front end's
    unmodelled codes ("ValidationException"); `status` the HTTP status, None to take it from the model; `extra`
    further members of the JSON body (e.g. {"Reason": …}). Source: lambda service model and its recorded errors.
    """

    def __init__(
        self, code: str, message: str | None, *, status: int | None = None, extra: dict[str, object] | None = None
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.extra = extra or {}
