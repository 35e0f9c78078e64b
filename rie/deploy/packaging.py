"""Local code of a template: directories zipped, the same bytes for the same files, and images built and pushed.

In the template a local path becomes an object of the bucket "rie-local" whose key is the archive's digest, which is
what SAM's transform takes; `Archives` has the bytes.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rie.errors import TemplateInvalid

LOCAL_BUCKET = "rie-local"
MAX_ZIPPED_BYTES = 50 << 20  # AWS: a request's ZipFile
_EPOCH = (1980, 1, 1, 0, 0, 0)
_LEFT_OUT = frozenset({"__pycache__", ".git", ".rie"})  # they change without the code changing

# type: property that is a path to code, and what its bucket and key are called there
_CODE: dict[str, tuple[str, str, str]] = {
    "AWS::Serverless::Function": ("CodeUri", "Bucket", "Key"),
    "AWS::Serverless::LayerVersion": ("ContentUri", "Bucket", "Key"),
    "AWS::Lambda::Function": ("Code", "S3Bucket", "S3Key"),
    "AWS::Lambda::LayerVersion": ("Content", "S3Bucket", "S3Key"),
}


@dataclass(frozen=True)
class Archives:
    """Zips by their SHA-256, in hexadecimal."""

    zips: dict[str, bytes] = field(default_factory=dict)

    def add(self, content: bytes) -> str:
        """Keep one; its digest."""
        digest = hashlib.sha256(content).hexdigest()
        self.zips[digest] = content
        return digest


@dataclass
class Packaging:
    """Replaces local paths in a template's document."""

    directory: Path
    archives: Archives = field(default_factory=Archives)
    _seen: dict[Path, str] = field(default_factory=dict)

    def package(self, document: dict[str, Any]) -> list[str]:
        """Change the document in place; what is wrong with its paths."""
        problems: list[str] = []
        functions = document.get("Globals", {}).get("Function", {})
        for logical_id, resource in document["Resources"].items():
            if resource["Type"] not in _CODE:
                continue
            name, bucket, key = _CODE[resource["Type"]]
            properties = resource.setdefault("Properties", {})
            value = properties.get(name)
            if value is None and name == "CodeUri" and not {"InlineCode", "ImageUri"} & properties.keys():
                value = functions.get("CodeUri")
            if not isinstance(value, str) or value.startswith("s3://"):
                continue
            try:
                properties[name] = {bucket: LOCAL_BUCKET, key: self._archive(value)}
            except TemplateInvalid as error:
                problems.append(f"{logical_id}: {name}: {error}")
        return problems

    def _archive(self, text: str) -> str:
        path = (self.directory / text).resolve()
        if path not in self._seen:
            self._seen[path] = self.archives.add(_content(path))
        return self._seen[path]


def _content(path: Path) -> bytes:
    try:
        content = zip_directory(path) if path.is_dir() else path.read_bytes()
    except OSError as error:
        raise TemplateInvalid(f"cannot read {path}: {error.strerror}") from None
    if path.is_file() and not zipfile.is_zipfile(path):
        content = zip_file(path)
    if len(content) > MAX_ZIPPED_BYTES:
        size = f"{len(content) >> 20} MB zipped, {MAX_ZIPPED_BYTES >> 20} MB at most"
        raise TemplateInvalid(f"{path} is too big: {size}; put it into a bucket and say s3://bucket/key")
    return content


def zip_directory(directory: Path) -> bytes:
    """A zip of what is below a directory: the same for the same names, bytes, links and execute bits."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in _files(directory):
            _add(archive, path, path.relative_to(directory).as_posix())
    if not packed.getbuffer().nbytes > _EMPTY_ZIP_BYTES:
        raise TemplateInvalid(f"{directory} is empty")
    return packed.getvalue()


def zip_file(path: Path) -> bytes:
    """A zip that holds one file."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        _add(archive, path, path.name)
    return packed.getvalue()


def zip_text(name: str, text: str) -> bytes:
    """A zip that holds one file of that text: inline code."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_entry(name, stat.S_IFREG | 0o644), text)
    return packed.getvalue()


_EMPTY_ZIP_BYTES = 22


def _files(directory: Path) -> list[Path]:
    found: list[Path] = []
    for folder, names, files in os.walk(directory):
        links = [name for name in names if (Path(folder) / name).is_symlink()]
        names[:] = [name for name in names if name not in _LEFT_OUT and name not in links]
        found += [Path(folder) / name for name in [*files, *links] if name not in _LEFT_OUT]
    return sorted(found)


def _entry(name: str, mode: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.create_system = 3  # Unix: modes count
    entry.external_attr = mode << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def _add(archive: zipfile.ZipFile, path: Path, name: str) -> None:
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        archive.writestr(_entry(name, stat.S_IFLNK | 0o777), str(path.readlink()))
    elif stat.S_ISREG(status.st_mode):
        mode = 0o755 if status.st_mode & 0o111 else 0o644
        archive.writestr(_entry(name, stat.S_IFREG | mode), path.read_bytes())
    else:
        raise TemplateInvalid(f"{path} is neither a file, a directory nor a link")
