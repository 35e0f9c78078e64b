"""Images on this machine: from files, through power cuts, held and collected, without root, and by command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from rie.errors import ImageInvalid, ImageNotFound
from rie.model.image import Image
from rie.rootfs import overlay
from rie.rootfs.images import Images
from tests.contract.conftest import docker
from tests.layers import archive, directory, file, hard_link, item, whiteout
from tests.registry import OCI_INDEX, Built, assemble, build, digest_of
from tests.scripted_registry import scripted

RIE = [sys.executable, "-m", "rie"]
TAG = "org.opencontainers.image.ref.name"


@pytest.fixture
def images(tmp_path: Path) -> Images:
    return Images(tmp_path / "images")


def prepared(images: Images, reference: str, architecture: str = "x86_64") -> Image:
    image = images.resolve(reference, architecture)
    images.prepare(image)
    return image


def pulled(images: Images, *layers: bytes) -> Image:
    """An image with these layers from a registry that is gone afterwards."""
    with scripted(assemble(layers)) as registry:
        return prepared(images, registry.reference)


def read(images: Images, image: Image, name: str) -> bytes:
    """A file in an image's uppermost layer."""
    return (images.layers(image)[-1] / name).read_bytes()


# -- from files --------------------------------------------------------------------------------------------------------


def layout(root: Path, images: Sequence[tuple[str | None, Built]], architectures: Sequence[str | None] = ()) -> Path:
    """A directory with an OCI layout."""
    entries = []
    for number, (tag, image) in enumerate(images):
        for blob in (*image.blobs, image.manifest):
            put(root, blob)
        entry: dict[str, object] = {"mediaType": image.media_type, "digest": image.digest, "size": len(image.manifest)}
        if tag:
            entry["annotations"] = {TAG: tag}
        if architectures and architectures[number]:
            entry["platform"] = {"os": "linux", "architecture": architectures[number]}
        entries.append(entry)
    (root / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (root / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    return root


def put(root: Path, blob: bytes) -> str:
    """A blob in a layout."""
    path = root / "blobs/sha256" / digest_of(blob)[7:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(blob)
    return digest_of(blob)


def test_an_oci_layout_gives_its_images_by_name_and_by_digest(images: Images, tmp_path: Path) -> None:
    one, two = build([{"app": b"one"}]), build([{"app": b"two"}])
    path = layout(tmp_path / "layout", [("1", one), ("2", two)])
    for reference, content in (
        (f"oci:{path}:1", b"one"),
        (f"oci-layout://{path}:2", b"two"),
        (f"oci:{path}@{one.digest}", b"one"),
    ):
        image = prepared(images, reference)
        assert image.reference == f"oci:{path}@{image.digest}"
        assert read(images, image, "app") == content
    with pytest.raises(ImageNotFound, match="has no 3, only 1, 2"):
        images.resolve(f"oci:{path}:3", "x86_64")
    with pytest.raises(ImageInvalid, match="several images; name one of 1, 2"):
        images.resolve(f"oci:{path}", "x86_64")
    with pytest.raises(ImageNotFound, match=r"index\.json"):
        images.resolve(f"oci:{tmp_path}/nowhere", "x86_64")
    with pytest.raises(ImageInvalid, match="names no path"):
        images.resolve("oci:", "x86_64")


def test_an_oci_layout_of_several_platforms_gives_the_one_asked_for(images: Images, tmp_path: Path) -> None:
    both = {name: build([{"app": name.encode()}], architecture=name) for name in ("amd64", "arm64")}
    path = layout(tmp_path / "flat", [(None, image) for image in both.values()], list(both))
    nested = layout(tmp_path / "nested", [(None, image) for image in both.values()], list(both))
    index = (nested / "index.json").read_bytes()
    entry = {"mediaType": OCI_INDEX, "digest": put(nested, index), "size": len(index)}
    (nested / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    for place in (path, nested):
        for architecture, content in (("x86_64", b"amd64"), ("arm64", b"arm64")):
            assert read(images, prepared(images, f"oci:{place}", architecture), "app") == content


def test_an_oci_layout_with_other_content_than_its_digests_say_is_refused(images: Images, tmp_path: Path) -> None:
    image = build([{"app": b"1"}])
    path = layout(tmp_path / "layout", [(None, image)])
    blob = path / "blobs/sha256" / image.layer_digests[0][7:]
    blob.write_bytes(blob.read_bytes() + b"!")
    with pytest.raises(ImageInvalid, match=image.layer_digests[0]):
        prepared(images, f"oci:{path}")
    blob.unlink()
    with pytest.raises(ImageNotFound, match=image.layer_digests[0]):
        prepared(images, f"oci:{path}")


def test_what_docker_saves_is_an_image(images: Images, tmp_path: Path) -> None:
    (tmp_path / "layer.tar").write_bytes(archive(directory("d"), file("d/app", b"saved")))
    names = [f"rootfs-test-{os.getpid()}:1", f"rootfs-test-{os.getpid()}:2"]
    path = tmp_path / "saved.tar"
    try:
        for name in names:
            docker("import", "--change", f'CMD ["/{name}"]', str(tmp_path / "layer.tar"), name)
        docker("save", "-o", str(path), *names)
    finally:
        docker("image", "rm", *names)
    for name in names:
        image = prepared(images, f"docker-archive:{path}:{name}")
        assert image.command == (f"/{name}",)
        assert read(images, image, "d/app") == b"saved"
        assert Images(tmp_path / "others").resolve(image.reference, "x86_64") == image
    with pytest.raises(ImageInvalid, match=f"several images; name one of {names[0]}"):
        images.resolve(f"docker-archive:{path}", "x86_64")
    with pytest.raises(ImageNotFound, match=f"only {names[0]}, {names[1]}"):
        images.resolve(f"docker-archive:{path}:other", "x86_64")


def saved(layers: dict[str, bytes], links: dict[str, str], order: list[str], path: Path) -> Path:
    """An archive as older Dockers write them, where layers may be links to each other."""
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layers[links.get(name, name)]) for name in order]},
        }
    ).encode()
    document = [{"Config": "config.json", "RepoTags": None, "Layers": [f"{name}/layer.tar" for name in order]}]
    path.write_bytes(
        archive(
            file("config.json", config),
            *(file(f"{name}/layer.tar", content) for name, content in layers.items()),
            *(item(f"{name}/layer.tar", b"2", linkname=f"../{target}/layer.tar") for name, target in links.items()),
            file("manifest.json", json.dumps(document).encode()),
        )
    )
    return path


def test_an_archive_may_have_links_for_layers_that_repeat(images: Images, tmp_path: Path) -> None:
    layers = {"a": archive(file("x", b"1")), "b": archive(file("y", b"2"))}
    path = saved(layers, {"c": "a"}, ["a", "b", "c"], tmp_path / "linked.tar")
    image = prepared(images, f"docker-archive:{path}")
    assert read(images, image, "x") == b"1"


@pytest.mark.parametrize(
    "content", [b"", b"no archive", b"\x1f\x8b" + bytes(600), archive(file("manifest.json", b"{}"))]
)
def test_what_is_no_saved_image_is_refused(images: Images, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file.tar").write_bytes(content)
    with pytest.raises(ImageInvalid):
        images.resolve(f"docker-archive:{tmp_path}/file.tar", "x86_64")


def test_an_archive_that_is_no_file_is_refused_at_once(images: Images, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ImageInvalid):
            images.resolve(f"docker-archive:{path}", "x86_64")
    with pytest.raises(ImageNotFound):
        images.resolve(f"docker-archive:{tmp_path}/nothing.tar", "x86_64")


# -- power cuts --------------------------------------------------------------------------------------------------------


def cut_power(root: Path) -> None:
    """Another boot: what was not settled by the former one names that one."""
    for path in root.glob("layers/*/layer.json"):
        said = json.loads(path.read_bytes())
        if said["boot"] is not None:
            path.write_text(json.dumps({**said, "boot": "another"}))


def test_a_layer_that_a_power_cut_may_have_damaged_is_unpacked_again(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Images, "settle", lambda self: None)
    with scripted(build([{"a": b"whole"}])) as registry:
        image = prepared(images, registry.reference)
        (images.layers(image)[-1] / "a").write_bytes(b"")
        cut_power(tmp_path / "images")
        with pytest.raises(ImageNotFound, match="not on this machine"):
            images.layers(image)
        images.prepare(image)
        assert read(images, image, "a") == b"whole"


def test_a_settled_layer_survives_a_power_cut(images: Images, tmp_path: Path) -> None:
    image = pulled(images, archive(file("a", b"whole")))
    images.settle()
    cut_power(tmp_path / "images")
    assert read(images, image, "a") == b"whole"


@pytest.mark.parametrize("damaged", ["images/*.json", "layers/*/layer.json"])
def test_records_that_a_power_cut_has_emptied_count_as_none(images: Images, tmp_path: Path, damaged: str) -> None:
    with scripted(build([{"a": b"whole"}])) as registry:
        image = prepared(images, registry.reference)
        images.settle()
        for path in (tmp_path / "images").glob(damaged):
            path.write_bytes(b"")
        with pytest.raises(ImageNotFound):
            images.layers(image)
        images.prepare(image)
        assert read(images, image, "a") == b"whole"


# -- collected ---------------------------------------------------------------------------------------------------------


def test_collecting_keeps_what_is_wanted_and_frees_the_rest(images: Images, tmp_path: Path) -> None:
    shared = archive(file("shared", bytes(1000)))
    kept = pulled(images, shared, archive(file("kept", bytes(200))))
    lost = pulled(images, shared, archive(file("lost", bytes(30))))
    assert images.collect([kept.reference]) == 30
    assert len(images.layers(kept)) == 2
    with pytest.raises(ImageNotFound, match="not on this machine"):
        images.layers(lost)
    assert images.collect([kept.digest]) == 0
    assert images.collect([]) == 1200
    for folder in ("layers", "unpacking", "downloads", "images", "locks"):
        assert list((tmp_path / "images" / folder).iterdir()) == []


def test_collecting_leaves_what_is_held_by_any_process(images: Images, tmp_path: Path) -> None:
    image = pulled(images, archive(file("a", b"1")))
    other = Images(tmp_path / "images")
    other.hold(image)
    other.hold(image)
    assert images.collect([]) == 0
    other.release(image)
    assert images.collect([]) == 0
    other.release(image)
    other.release(image)
    holder = (
        "import sys; from pathlib import Path; from rie.rootfs.images import Images; "
        "images = Images(Path(sys.argv[1])); images.hold(images.list()[0].image); print('held', flush=True); input()"
    )
    command = [sys.executable, "-c", holder, str(tmp_path / "images")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert images.collect([]) == 0
        process.kill()
    assert images.collect([]) == 1


def test_collecting_leaves_what_is_mounted_in_any_namespace(images: Images, tmp_path: Path) -> None:
    image = pulled(images, archive(file("a", b"1")))
    target = tmp_path / "root"
    target.mkdir()
    overlay.mount(images.layers(image), target, label=image.digest)
    try:
        elsewhere = ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo there; read line"]
        with subprocess.Popen(elsewhere, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"there\n"
            overlay.unmount(target)
            assert images.collect([]) == 0
            process.communicate(b"\n")
        assert images.collect([]) == 1
    finally:
        overlay.unmount(target)


def test_collecting_waits_for_no_pull_and_removes_what_dead_ones_left(images: Images, tmp_path: Path) -> None:
    image = build([{"a": bytes(100)}])
    (tmp_path / "images/downloads/left").write_bytes(bytes(500))
    (tmp_path / "images/unpacking/left/fs/deep").mkdir(parents=True)
    with scripted(image) as registry:
        registry.stall_after[image.layer_digests[0]] = 10
        command = [*RIE, "pull", registry.reference, "--data", str(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert registry.stalled.wait(30)
        from rie.rootfs import collect

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(collect, "WAIT_S", 0.05)
            assert images.collect([]) == 0
        assert (tmp_path / "images/downloads/left").exists()
        registry.go_on.set()
        process.communicate()
        assert process.returncode == 0
    assert images.collect([]) == 600


# -- without root ------------------------------------------------------------------------------------------------------


def test_without_root_images_are_unpacked_for_their_user(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    layers = [
        archive(directory("d"), file("d/old"), file("tool", b"#!", mode=0o4755, uid=5)),
        archive(directory("d"), file("d/new"), whiteout("tool"), file("d/.wh..wh..opq"), hard_link("e", "d/new")),
    ]
    with scripted(assemble(layers)) as registry:
        command = [*RIE, "pull", registry.reference, "--data", str(tmp_path / "data")]
        as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]
        done = subprocess.run(as_nobody, capture_output=True, text=True, env={"HOME": "/nonexistent"}, check=False)
    assert done.returncode == 0, done.stderr
    images = Images(tmp_path / "data/images")
    (kept,) = images.list()
    lower, upper = images.layers(kept.image)
    assert (lower / "tool").stat().st_uid == 65534
    assert os.getxattr(upper / "d", "user.overlay.opaque") == b"y"
    target = tmp_path / "root"
    target.mkdir()
    overlay.mount((lower, upper), target, userxattr=True)
    try:
        assert sorted(str(path.relative_to(target)) for path in target.rglob("*")) == ["d", "d/new", "e"]
    finally:
        overlay.unmount(target)


# -- by command --------------------------------------------------------------------------------------------------------


def rie(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*RIE, *arguments], capture_output=True, text=True, check=False)


def test_the_commands_pull_list_and_prune(tmp_path: Path) -> None:
    data = ("--data", str(tmp_path))
    image = build([{"a": bytes(2_000_000)}])
    with scripted(image) as registry:
        done = rie("pull", registry.reference, "--json", *data)
        assert json.loads(done.stdout) == {
            "reference": f"{registry.host}/app@{image.digest}",
            "digest": image.digest,
            "architecture": "x86_64",
        }
        assert "ready" in done.stderr
        assert "\x1b" not in done.stdout + done.stderr
        (listed,) = json.loads(rie("images", "--json", *data).stdout)
        assert (listed["reference"], listed["bytes"], listed["layers"]) == (
            f"{registry.host}/app@{image.digest}",
            2_000_000,
            1,
        )
        missing = rie("pull", f"oci:{tmp_path}/none", *data)
        assert (missing.returncode, missing.stdout) == (1, "")
        assert missing.stderr.startswith("rie: cannot use image oci:")
    assert json.loads(rie("prune", "--json", *data).stdout) == {"freedBytes": 2_000_000}
    assert rie("images", *data).stdout.split() == ["REPOSITORY", "DIGEST", "ARCHITECTURE", "LAYERS", "SIZE", "SHARED"]


def test_a_terminal_gets_bars(tmp_path: Path) -> None:
    if not shutil.which("script"):
        pytest.fail("`script` is not installed (apt-get install bsdutils)")
    with scripted(build([{"a": bytes(100_000)}])) as registry:
        line = " ".join([*RIE, "pull", registry.reference, "--data", str(tmp_path)])
        done = subprocess.run(["script", "-qec", line, "/dev/null"], capture_output=True, text=True, check=True)
    assert "━" in done.stdout
    assert "ready" in done.stdout
