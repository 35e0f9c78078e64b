"""Images of a template: a Dockerfile's, built and pushed when the function that wants it is made or changed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rie.deploy.packaging import zip_directory
from rie.errors import DeployFailed, TemplateInvalid

_TAG_LETTERS = 20


@dataclass(frozen=True, slots=True)
class Build:
    """`reference` names the content: the same files give the same, so that nothing is built that didn't change."""

    reference: str
    context: Path
    dockerfile: str
    arguments: dict[str, str] = field(default_factory=dict)
    target: str | None = None

    def run(self) -> None:
        """Build and push. Raises DeployFailed."""
        import docker
        from docker.errors import BuildError, DockerException

        try:
            engine = docker.from_env(timeout=600)
            engine.images.build(
                path=str(self.context),
                dockerfile=self.dockerfile,
                tag=self.reference,
                buildargs=self.arguments,
                target=self.target,
                rm=True,
            )
            for told in engine.images.push(self.reference, stream=True, decode=True):
                if "error" in told:
                    raise DeployFailed(f"cannot push {self.reference}: {told['error']}")
        except BuildError as error:
            log = "".join(str(line.get("stream", "")) for line in error.build_log)[-2000:]
            raise DeployFailed(f"cannot build {self.context}: {error.msg}\n{log}") from None
        except DockerException as error:
            raise DeployFailed(f"cannot build {self.context}: {error}") from None


@dataclass
class Images:
    """The images to build, by reference."""

    directory: Path
    stack: str
    registry: str | None
    builds: dict[str, Build] = field(default_factory=dict)

    def package(self, document: dict[str, Any]) -> list[str]:
        """Give functions that have a Dockerfile the reference of what it will make; what is wrong with them."""
        problems = []
        is_image = document.get("Globals", {}).get("Function", {}).get("PackageType") == "Image"
        for logical_id, resource in document["Resources"].items():
            metadata = resource.get("Metadata") or {}
            properties = resource.get("Properties", {})
            named = resource["Type"] in ("AWS::Serverless::Function", "AWS::Lambda::Function")
            if not named or not {"Dockerfile", "DockerContext"} & metadata.keys():
                continue
            if not is_image and properties.get("PackageType") != "Image":
                continue
            try:
                reference = self._build(logical_id, metadata)
            except TemplateInvalid as error:
                problems.append(f"{logical_id}: {error}")
                continue
            if resource["Type"] == "AWS::Lambda::Function":
                properties["Code"] = {"ImageUri": reference}
            else:
                properties["ImageUri"] = reference
        return problems

    def _build(self, logical_id: str, metadata: dict[str, Any]) -> str:
        context = (self.directory / str(metadata.get("DockerContext", "."))).resolve()
        dockerfile = str(metadata.get("Dockerfile", "Dockerfile"))
        if not (context / dockerfile).is_file():
            raise TemplateInvalid(f"there is no {context / dockerfile}")
        if not self.registry:
            raise TemplateInvalid(
                "its image is built from a Dockerfile: say where to push it, --registry HOST[:PORT]/PREFIX, or push it"
                " yourself and give its ImageUri"
            )
        arguments = {key: str(value) for key, value in (metadata.get("DockerBuildArgs") or {}).items()}
        target = metadata.get("DockerBuildTarget")
        told = repr((dockerfile, sorted(arguments.items()), target)).encode()
        digest = hashlib.sha256(zip_directory(context) + told).hexdigest()[:_TAG_LETTERS]
        reference = f"{self.registry.rstrip('/')}/{self.stack}-{logical_id}".lower() + f":{digest}"
        self.builds[reference] = Build(reference, context, dockerfile, arguments, target)
        return reference
