"""The grammar of image references."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rie.errors import ImageInvalid
from rie.rootfs.reference import Reference, is_digest, parse

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "host", "repository", "tag", "digest"),
    [
        ("app", "docker.io", "library/app", None, None),
        ("app:1.0", "docker.io", "library/app", "1.0", None),
        ("team/app", "docker.io", "team/app", None, None),
        ("index.docker.io/app", "docker.io", "library/app", None, None),
        ("registry-1.docker.io/team/app", "docker.io", "team/app", None, None),
        ("localhost/app", "localhost", "app", None, None),
        ("localhost:5000/app:v1", "localhost:5000", "app", "v1", None),
        ("127.0.0.1:5000/a/b/c:latest", "127.0.0.1:5000", "a/b/c", "latest", None),
        ("[::1]:5000/app", "[::1]:5000", "app", None, None),
        ("Registry/app", "Registry", "app", None, None),
        (f"host.example/app@{DIGEST}", "host.example", "app", None, DIGEST),
        (f"host.example:443/app:v1@{DIGEST}", "host.example:443", "app", "v1", DIGEST),
        (
            "123456789012.dkr.ecr.us-east-1.amazonaws.com/my_app__x/y-z.w:T_a-g.1",
            "123456789012.dkr.ecr.us-east-1.amazonaws.com",
            "my_app__x/y-z.w",
            "T_a-g.1",
            None,
        ),
    ],
)
def test_what_people_type_is_read_as_docker_reads_it(
    text: str, host: str, repository: str, tag: str | None, digest: str | None
) -> None:
    assert parse(text) == Reference(host, repository, tag, digest)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "repository"),
        ("UPPER", "repository"),
        ("a//b", "repository"),
        ("/a", "repository"),
        ("a/", "repository"),
        ("-a", "repository"),
        ("a..b", "repository"),
        ("a b", "repository"),
        ("a\n", "repository"),
        ("host.example/Upper", "repository"),
        ("https://host.example/app", "host"),
        ("host_name:5000/app", "host"),
        ("host.example:port/app", "host"),
        ("host.example:70000/app", "port"),
        ("host.example:0/app", "port"),
        ("app:", "tag"),
        ("app:.tag", "tag"),
        ("app:a:b", "tag"),
        ("app:" + "t" * 129, "tag"),
        ("app@", "digest"),
        ("app@sha256:abc", "digest"),
        (f"app@{DIGEST.upper()}", "digest"),
        ("app@sha512:" + "0" * 128, "digest"),
        (f"app@{DIGEST}@{DIGEST}", "digest"),
        ("a" * 250, "255 characters"),
    ],
)
def test_what_breaks_the_grammar_is_invalid_and_names_the_part(text: str, word: str) -> None:
    with pytest.raises(ImageInvalid, match=word) as caught:
        parse(text)
    assert caught.value.reference == text


def test_a_digest_outdoes_a_tag_and_latest_is_the_tag_of_those_without() -> None:
    assert parse(f"app:v1@{DIGEST}").selector == DIGEST
    assert parse("app:v1").selector == "v1"
    assert parse("app").selector == "latest"


def test_a_pinned_reference_names_host_repository_and_digest() -> None:
    assert parse("127.0.0.1:5000/app:v1").pinned(DIGEST) == f"127.0.0.1:5000/app@{DIGEST}"
    assert parse("app").pinned(DIGEST) == f"docker.io/library/app@{DIGEST}"


def test_docker_hub_answers_elsewhere() -> None:
    assert parse("app").api_host == "registry-1.docker.io"
    assert parse("127.0.0.1:5000/app").api_host == "127.0.0.1:5000"


@pytest.mark.parametrize(
    ("text", "is_local"),
    [
        ("localhost/a", True),
        ("localhost:5000/a", True),
        ("127.0.0.1/a", True),
        ("127.8.9.10:80/a", True),
        ("[::1]:5000/a", True),
        ("a", False),
        ("10.0.0.1:5000/a", False),
        ("localhost.example/a", False),
        ("127.0.0.1.example/a", False),
    ],
)
def test_only_this_machines_own_registries_are_local(text: str, is_local: bool) -> None:
    assert parse(text).is_local is is_local


def test_a_digest_is_sha256_in_lower_case() -> None:
    assert is_digest(DIGEST)
    assert not any(map(is_digest, (DIGEST.upper(), DIGEST + "0", DIGEST[:-1], DIGEST + "\n", "")))


@given(st.text(max_size=80))
def test_whatever_is_typed_is_either_read_or_invalid_and_what_is_read_is_stable(text: str) -> None:
    try:
        read = parse(text)
    except ImageInvalid:
        return
    assert parse(str(read)) == read
