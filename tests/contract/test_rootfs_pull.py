"""Images pulled from real and from scripted registries: whole, once, whatever interrupts it."""

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from rie.errors import DiskFull, ImageInvalid, RegistryUnavailable
from rie.model.image import Image
from rie.rootfs import fetch
from rie.rootfs import pull as pull_module
from rie.rootfs.images import Images
from rie.rootfs.progress import Phase, Step
from tests.layers import archive, directory, file
from tests.registry import DOCKER_LIST, OCI_INDEX, Registry, assemble, build, digest_of, gzipped
from tests.scripted_registry import scripted

RIE = [sys.executable, "-m", "rie"]
ATTEMPTS = 12  # to catch a process in the middle of something


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that don't compress, the same each time."""
    return random.Random(seed).randbytes(size)


@pytest.fixture
def images(tmp_path: Path) -> Images:
    return Images(tmp_path / "images")


def prepared(images: Images, reference: str, architecture: str = "x86_64") -> Image:
    image = images.resolve(reference, architecture)
    images.prepare(image)
    return image


def files_of(images: Images, image: Image) -> dict[str, bytes]:
    """The regular files of an image's layers, one over the other; for layers without whiteouts."""
    found = {}
    for layer in images.layers(image):
        for path in layer.rglob("*"):
            if path.is_file():
                found[str(path.relative_to(layer))] = path.read_bytes()
    return found


def zstd(content: bytes) -> bytes:
    return zstandard.compress(content)


def members(content: bytes) -> bytes:
    """As pigz and seekable compressors write it: several members, and padding after them."""
    half = len(content) // 2
    return gzip.compress(content[:half]) + gzip.compress(content[half:]) + bytes(512)


def frames(content: bytes) -> bytes:
    half = len(content) // 2
    return zstandard.compress(content[:half]) + zstandard.compress(content[half:])


def plain(content: bytes) -> bytes:
    return content


# -- what comes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("docker_types", [False, True])
def test_a_tag_and_a_digest_bring_the_same_files(images: Images, registry: Registry, docker_types: bool) -> None:
    layers = [{"a": b"one", "b": b"two"}, {"b": b"three", "d": None, "d/c": b"four"}]
    digest = registry.push("pull/plain", "1", build(layers, docker_types=docker_types))
    image = prepared(images, registry.reference("pull/plain", "1"))
    assert image.digest == digest
    assert files_of(images, image) == {"a": b"one", "b": b"three", "d/c": b"four"}
    assert prepared(images, registry.reference("pull/plain", digest)) == image


@pytest.mark.parametrize("compress", [gzipped, members, zstd, frames, plain])
def test_every_compression_brings_the_same_files(
    images: Images, registry: Registry, compress: Callable[[bytes], bytes]
) -> None:
    content = noise(3 << 20) + bytes(3 << 20)
    made = archive(directory("d"), file("d/large", content), file("small", b"1"))
    registry.push("pull/compressed", compress.__name__, assemble([made], compress=compress))
    image = prepared(images, registry.reference("pull/compressed", compress.__name__))
    assert files_of(images, image) == {"d/large": content, "small": b"1"}


@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_LIST])
def test_an_index_brings_the_layers_of_the_platform(images: Images, registry: Registry, media_type: str) -> None:
    both = {name: build([{"app": name.encode()}], architecture=name) for name in ("amd64", "arm64")}
    registry.push_index("pull/multi", "1", both, media_type)
    for architecture, name in (("x86_64", b"amd64"), ("arm64", b"arm64")):
        image = prepared(images, registry.reference("pull/multi", "1"), architecture)
        assert files_of(images, image) == {"app": name}


def test_a_layer_that_images_share_is_fetched_and_unpacked_once(images: Images) -> None:
    shared, own = archive(file("shared", noise(1000))), archive(file("own"))
    with scripted(assemble([shared])) as first, scripted(assemble([shared, own])) as second:
        one, two = prepared(images, first.reference), prepared(images, second.reference)
        assert second.ranges(digest_of(gzipped(shared))) == []
    assert images.layers(one)[-1] == images.layers(two)[0]
    assert [(kept.layers, kept.data_bytes, kept.shared_bytes) for kept in images.list()] in (
        [(1, 1000, 1000), (2, 1000, 1000)],
        [(2, 1000, 1000), (1, 1000, 1000)],
    )


def test_what_is_here_is_not_asked_for_again(images: Images) -> None:
    with scripted(build([{"a": b"1"}])) as registry:
        image = prepared(images, registry.reference)
        registry.asked.clear()
        images.prepare(image)
        assert images.resolve(image.reference, "x86_64") == image
        assert registry.asked == []


def test_progress_is_told_layer_by_layer(tmp_path: Path, registry: Registry) -> None:
    registry.push("pull/told", "1", build([{"a": noise(300_000)}]))
    images = Images(tmp_path / "steps")
    image = images.resolve(registry.reference("pull/told", "1"), "x86_64")
    steps: list[Step] = []
    images.prepare(image, watch=steps.append)
    assert list(dict.fromkeys(step.phase for step in steps)) == [Phase.DOWNLOADING, Phase.UNPACKING, Phase.READY]
    assert steps[-1].done_bytes == steps[-1].total_bytes > 300_000
    lines: list[str] = []
    Images(tmp_path / "lines").prepare(image, lines.append)
    assert [line.split(": ")[1].split()[0] for line in lines] == ["downloading", "unpacking", "ready"]


# -- what is not what it should be -------------------------------------------------------------------------------------


def test_a_tampered_layer_is_refused_and_nothing_of_it_stays(
    images: Images, registry: Registry, tmp_path: Path
) -> None:
    image = build([{"a": noise(5000)}])
    registry.push("pull/tampered", "1", image)
    path = registry.blob_path(image.layer_digests[0])
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(ImageInvalid, match=image.layer_digests[0]):
        prepared(images, registry.reference("pull/tampered", "1"))
    for folder in ("layers", "unpacking", "downloads", "images"):
        assert list((tmp_path / "images" / folder).iterdir()) == []


def test_a_layer_that_is_not_what_the_configuration_says_is_refused(images: Images, tmp_path: Path) -> None:
    honest, other = archive(file("a", b"1")), archive(file("a", b"2"))
    swapped = assemble([honest], compress=lambda _: gzipped(other))
    with scripted(swapped) as registry, pytest.raises(ImageInvalid, match=f"unpacks to .*{digest_of(other)}"):
        prepared(images, registry.reference)
    assert list((tmp_path / "images/layers").iterdir()) == []
    assert list((tmp_path / "images/unpacking").iterdir()) == []


@pytest.mark.parametrize("longer", [True, False])
def test_a_layer_of_another_size_than_its_manifest_says_is_refused(
    images: Images, longer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "PAUSE_S", 0.001)
    image = build([{"a": noise(5000)}])
    digest = image.layer_digests[0]
    with scripted(image) as registry:
        registry.replaced[digest] = noise(9000 if longer else 100)
        with pytest.raises(ImageInvalid if longer else RegistryUnavailable, match=digest):
            prepared(images, registry.reference)


def test_what_is_broken_within_the_compression_is_refused(images: Images) -> None:
    made = archive(file("a", noise(100_000)))
    for broken in (
        gzip.compress(made)[:-5000],
        zstandard.compress(made)[:-5000],
        b"\x1f\x8bno",
        b"nothing of the kind",
    ):
        image = assemble([made], compress=lambda _, broken=broken: broken)  # type: ignore[misc]
        with scripted(image) as registry, pytest.raises(ImageInvalid, match=r"is broken|unpacks to"):
            prepared(images, registry.reference)


def test_bombs_are_stopped_by_size_and_by_count(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull_module, "MAX_IMAGE_BYTES", 2 << 20)
    monkeypatch.setattr(pull_module, "MAX_IMAGE_ENTRIES", 300)
    large = archive(file("zeros", bytes(16 << 20)))
    trailing = archive(file("a")) + bytes(16 << 20)
    many = archive(*(file(f"f{number}") for number in range(301)))
    deep = archive(*(file(f"{number}/" + "d/" * 150 + "f") for number in range(3)))
    for bomb, compress in ((large, gzipped), (large, zstd), (trailing, gzipped), (many, gzipped), (deep, gzipped)):
        with scripted(assemble([bomb], compress=compress)) as registry:
            assert len(registry.image.blobs[1]) < 1 << 19
            with pytest.raises(ImageInvalid, match="more than"):
                prepared(images, registry.reference)
    assert list((tmp_path / "images/layers").iterdir()) == []
    assert list((tmp_path / "images/unpacking").iterdir()) == []


def test_layers_that_are_large_only_together_are_refused(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull_module, "MAX_IMAGE_BYTES", 8 << 20)
    image = assemble([archive(file("zeros", bytes(3 << 20)), file(str(number))) for number in range(3)])
    with scripted(image) as registry, pytest.raises(ImageInvalid, match="more than"):
        prepared(images, registry.reference)


def test_a_full_disk_has_a_name_and_leaves_nothing(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "rie-test", small], check=True)
    try:
        images = Images(small / "images")
        for content in (noise(4 << 20), bytes(16 << 20)):  # too large as a blob, and only when unpacked
            with scripted(build([{"a": content}])) as registry, pytest.raises(DiskFull):
                prepared(images, registry.reference)
            assert list((small / "images/layers").iterdir()) == []
            assert sum(path.stat().st_size for path in small.rglob("*") if path.is_file()) < 100_000
    finally:
        subprocess.run(["umount", small], check=True)


# -- interrupted -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("has_ranges", [True, False])
def test_a_download_that_is_cut_goes_on_where_it_ended(
    images: Images, has_ranges: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "PAUSE_S", 0.001)
    content = noise(2 << 20)
    image = build([{"a": content}])
    digest = image.layer_digests[0]
    with scripted(image) as registry:
        registry.has_ranges = has_ranges
        registry.cut_after[digest] = 1 << 20
        assert files_of(images, prepared(images, registry.reference)) == {"a": content}
        first, second = registry.ranges(digest)
        assert first is None
        assert second is not None
        assert 0 < int(second.removeprefix("bytes=").removesuffix("-")) <= 1 << 20


def test_a_registry_that_always_cuts_is_given_up(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "PAUSE_S", 0.001)
    image = build([{"a": noise(100_000)}])
    with scripted(image) as registry:
        registry.replaced[image.layer_digests[0]] = b""
        with pytest.raises(RegistryUnavailable):
            prepared(images, registry.reference)
        assert len(registry.ranges(image.layer_digests[0])) == fetch.ATTEMPTS


def test_a_beginning_that_is_wrong_is_fetched_anew(images: Images, tmp_path: Path) -> None:
    image = build([{"a": noise(100_000)}])
    digest = image.layer_digests[0]
    diff_id = json.loads(image.blobs[0])["rootfs"]["diff_ids"][0]
    for wrong in (b"wrong" * 100, b"wrong" * 100_000):
        images = Images(tmp_path / f"images-{len(wrong)}")
        partial = tmp_path / f"images-{len(wrong)}" / "downloads" / f"{diff_id[7:]}.{digest[7:]}"
        partial.write_bytes(wrong)
        with scripted(image) as registry:
            assert files_of(images, prepared(images, registry.reference))["a"] == noise(100_000)


def test_killed_while_downloading_it_goes_on_where_it_was(tmp_path: Path) -> None:
    content = noise(3 << 20)
    image = build([{"a": content}])
    digest = image.layer_digests[0]
    with scripted(image) as registry:
        registry.stall_after[digest] = 2 << 20
        process = pulling(registry.reference, tmp_path)
        assert registry.stalled.wait(30)
        partial = downloading(tmp_path, at_least=1 << 20)
        kill(process)
        had = partial.stat().st_size
        registry.go_on.set()
        images = Images(tmp_path / "images")
        assert files_of(images, prepared(images, registry.reference)) == {"a": content}
        assert registry.ranges(digest)[-1] == f"bytes={had}-"


def test_killed_while_unpacking_no_half_layer_is_used(tmp_path: Path, registry: Registry) -> None:
    made = archive(*(file(f"f{number}", b"content" * 50) for number in range(6000)))
    first = tmp_path / "{attempt}" / "images/unpacking" / digest_of(made)[7:] / "fs/f0"
    registry.push("pull/killed", "1", assemble([made]))
    reference = registry.reference("pull/killed", "1")
    for attempt in range(ATTEMPTS):
        root = tmp_path / str(attempt)
        process = pulling(reference, root)
        while process.poll() is None and not os.path.exists(str(first).format(attempt=attempt)):
            time.sleep(0.001)
        kill(process)
        images = Images(root / "images")
        image = images.resolve(reference, "x86_64")
        was_caught = not list((root / "images/layers").iterdir())
        images.prepare(image)
        (layer,) = [path for path in images.layers(image) if "layers" in path.parts]
        assert len(os.listdir(layer)) == 6000
        assert list((root / "images/unpacking").iterdir()) == []
        if was_caught:
            return
    pytest.fail("no process was caught unpacking")


def pulling(reference: str, data: Path) -> subprocess.Popen[bytes]:
    """`rie pull` in a process of its own."""
    command = [*RIE, "pull", reference, "--data", str(data)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL for the process alone; what it has started ends by itself."""
    process.kill()
    process.communicate()
    gives_up_at = time.monotonic() + 20
    while True:  # it was the leader of its session, which is empty once its unpackers have ended
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        assert time.monotonic() < gives_up_at, "the unpackers outlive the process that they work for"
        time.sleep(0.01)


def downloading(data: Path, at_least: int) -> Path:
    """The partial download, once it has that many bytes."""
    gives_up_at = time.monotonic() + 20
    while time.monotonic() < gives_up_at:
        for path in (data / "images/downloads").glob("*"):
            if path.stat().st_size >= at_least:
                return path
        time.sleep(0.005)
    raise AssertionError("nothing was downloaded")


# -- several at a time -------------------------------------------------------------------------------------------------


def test_processes_that_pull_the_same_image_fetch_each_layer_once(tmp_path: Path) -> None:
    image = assemble([archive(file(f"f{number}", noise(200_000, number))) for number in range(4)])
    with scripted(image) as registry:
        processes = [pulling(registry.reference, tmp_path) for _ in range(2)]
        said = [process.communicate() for process in processes]
        assert [process.returncode for process in processes] == [0, 0], said
        assert {out for out, _ in said} == {f"{registry.host}/app@{image.digest}\n".encode()}
        assert [len(registry.ranges(digest)) for digest in image.layer_digests] == [1, 1, 1, 1]
        images = Images(tmp_path / "images")
        assert len(files_of(images, images.resolve(registry.reference, "x86_64"))) == 4


def test_threads_that_prepare_the_same_image_all_succeed(images: Images, registry: Registry) -> None:
    registry.push("pull/threads", "1", build([{"a": noise(100_000)}, {"b": b"2"}]))
    image = images.resolve(registry.reference("pull/threads", "1"), "x86_64")
    failures: list[BaseException] = []

    def prepare() -> None:
        try:
            images.prepare(image)
            assert len(files_of(images, image)) == 2
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=prepare) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_no_process_and_no_half_layer_is_left_when_a_pull_has_failed(images: Images, tmp_path: Path) -> None:
    before = children()
    image = assemble([b"no archive at all", *(archive(file("a", noise(4 << 20, number))) for number in range(3))])
    with scripted(image) as registry, pytest.raises(ImageInvalid):
        prepared(images, registry.reference)
    assert children() == before
    assert list((tmp_path / "images/unpacking").iterdir()) == []


def children() -> set[str]:
    """The processes of this one."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())
