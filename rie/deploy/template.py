"""A template as it is written: YAML or JSON with CloudFormation's short tags, and the lines its resources are on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rie.errors import TemplateInvalid

_SECTIONS = frozenset(
    [
        "AWSTemplateFormatVersion",
        "Conditions",
        "Description",
        "Globals",
        "Mappings",
        "Metadata",
        "Outputs",
        "Parameters",
        "Resources",
        "Rules",
        "Transform",
    ]
)
_ATTRIBUTES = frozenset(
    [
        "Condition",
        "Connectors",
        "CreationPolicy",
        "DeletionPolicy",
        "DependsOn",
        "Metadata",
        "Properties",
        "Type",
        "UpdatePolicy",
        "UpdateReplacePolicy",
    ]
)
_SAM = "AWS::Serverless-2016-10-31"
_DEPTH = 100  # no template nests as deep


@dataclass(frozen=True, slots=True)
class Template:
    """`document` has long intrinsics only ({"Fn::GetAtt": [...]}); `lines` the line of each logical id, from 1."""

    path: Path
    document: dict[str, Any]
    lines: dict[str, int]

    @property
    def directory(self) -> Path:
        """What paths in the template are relative to."""
        return self.path.parent

    @property
    def is_sam(self) -> bool:
        """Whether it asks for SAM's transform."""
        transform = self.document.get("Transform") or []
        return _SAM in ([transform] if isinstance(transform, str) else transform)

    def where(self, logical_id: str) -> str:
        """'Jobs (template.yaml:12)'; the id alone for what the transform made."""
        line = self.lines.get(logical_id)
        return f"{logical_id} ({self.path.name}:{line})" if line else logical_id


def read(path: Path) -> Template:
    """The template in a file. Raises TemplateInvalid, with the line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TemplateInvalid(f"cannot read {path}: {error}") from None
    return parse(text, path)


def parse(text: str, path: Path) -> Template:
    """The template that a text is. Raises TemplateInvalid."""
    import yaml

    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise TemplateInvalid(f"cannot read {path.name}: {' '.join(str(error).split())}") from None
    document = _Reader(path.name).value(root) if root is not None else None
    if not isinstance(document, dict) or not isinstance(document.get("Resources"), dict) or not document["Resources"]:
        raise TemplateInvalid(f"cannot deploy {path.name}: a template is a mapping with Resources")
    template = Template(path, document, _lines(root))
    _check(template)
    return template


def _check(template: Template) -> None:
    problems = [f"section {name} is not known" for name in template.document if name not in _SECTIONS]
    transform = template.document.get("Transform") or []
    for name in [transform] if isinstance(transform, str | dict) else transform:
        if name != _SAM:
            problems.append(f"transform {name} is not supported, only {_SAM}")
    for logical_id, resource in template.document["Resources"].items():
        if not logical_id.isalnum():
            problems.append(f"{template.where(logical_id)}: a logical id has letters and digits only")
        if not isinstance(resource, dict) or not isinstance(resource.get("Type"), str):
            problems.append(f"{template.where(logical_id)}: a resource has a Type")
            continue
        for name in resource.keys() - _ATTRIBUTES:
            problems.append(f"{template.where(logical_id)}: attribute {name} is not known")
        if not isinstance(resource.get("Properties", {}), dict):
            problems.append(f"{template.where(logical_id)}: Properties is not a mapping")
    refuse(template.path.name, problems)


def refuse(name: str, problems: list[str]) -> None:
    """Raise TemplateInvalid that lists the problems, if there are any."""
    if problems:
        listed = "".join(f"\n  {problem}" for problem in problems)
        raise TemplateInvalid(f"cannot deploy {name}: nothing was changed{listed}")


def _lines(root: Any) -> dict[str, int]:
    for key, value in root.value:
        if key.value == "Resources":
            return {name.value: name.start_mark.line + 1 for name, _ in value.value}
    return {}


class _Reader:
    """Plain values of YAML nodes; no date is read as one, and no key is given twice."""

    def __init__(self, name: str) -> None:
        self._name = name

    def value(self, node: Any, depth: int = 0) -> Any:
        import yaml

        if depth > _DEPTH:
            raise self._invalid(node, "it nests too deep")
        if isinstance(node, yaml.MappingNode):
            plain: Any = self._mapping(node, depth)
        elif isinstance(node, yaml.SequenceNode):
            plain = [self.value(each, depth + 1) for each in node.value]
        else:
            plain = self._scalar(node)
        return self._tagged(node, plain)

    def _mapping(self, node: Any, depth: int) -> dict[str, Any]:
        read: dict[str, Any] = {}
        for key, value in node.value:
            name = str(key.value)
            if name in read:
                raise self._invalid(key, f"{name} is given twice")
            read[name] = self.value(value, depth + 1)
        return read

    def _scalar(self, node: Any) -> Any:
        import yaml

        if node.tag.endswith((":bool", ":int", ":float", ":null")):
            return yaml.SafeLoader("").construct_object(node)
        return node.value

    def _tagged(self, node: Any, plain: Any) -> Any:
        """`!Sub x` is {"Fn::Sub": "x"}."""
        if not node.tag.startswith("!"):
            return plain
        name = node.tag[1:]
        if name in ("Ref", "Condition"):
            return {name: plain}
        if name == "GetAtt" and isinstance(plain, str):
            plain = plain.split(".", 1)
        return {f"Fn::{name}": plain}

    def _invalid(self, node: Any, why: str) -> TemplateInvalid:
        return TemplateInvalid(f"cannot read {self._name}:{node.start_mark.line + 1}: {why}")
