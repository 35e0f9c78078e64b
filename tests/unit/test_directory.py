"""What invocations find behind a name: versions, aliases, and the draw between two versions."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from rie.errors import ServiceError
from rie.invoke.directory import Directory
from rie.invoke.mirror import Mirror
from rie.model.alias import ALIASES, Alias
from rie.model.function import Configuration, Function, FunctionKey
from rie.model.image import Image
from rie.model.record import place_of

KEY = FunctionKey("123456789012", "us-east-1", "f")
CONFIGURATION = Configuration("c", "role", "uri", Image("r", "d", "x86_64"))
PICKS = 10_000


def version(number: str) -> Function:
    return Function(KEY, CONFIGURATION, CONFIGURATION, number, "now", version=number)


def directory(alias: Alias | None = None, seed: int = 7) -> Directory:
    mirror = Mirror()
    if alias is not None:
        mirror.update(ALIASES, place_of(KEY, "live"), alias)
    return Directory(map(version, ("$LATEST", "1", "2")), mirror, random.Random(seed).random)


@pytest.mark.parametrize(
    ("qualifier", "found"), [(None, "$LATEST"), ("$LATEST", "$LATEST"), ("1", "1"), ("2", "2"), ("live", "2")]
)
def test_a_qualifier_names_a_version(qualifier: str | None, found: str) -> None:
    assert directory(Alias("2", "r")).find(KEY, qualifier).version == found


@pytest.mark.parametrize("qualifier", [None, "3", "other"])
def test_what_is_not_there_is_said_with_its_qualifier(qualifier: str | None) -> None:
    key = FunctionKey("123456789012", "us-east-1", "g") if qualifier is None else KEY
    with pytest.raises(ServiceError) as caught:
        directory().find(key, qualifier)
    assert caught.value.message == f"Function not found: {key.arn}:{qualifier or '$LATEST'}"


@pytest.mark.parametrize("weight", [0.0, 0.01, 0.1, 0.5, 0.9, 1.0])
def test_the_share_of_ten_thousand_calls_is_the_weight_within_one_percent(weight: float) -> None:
    found = directory(Alias("1", "r", additional_version="2", additional_weight=weight))
    picks = [found.find(KEY, "live").version for _ in range(PICKS)]
    assert picks.count("2") / PICKS == pytest.approx(weight, abs=0.01)
    assert picks.count("1") + picks.count("2") == PICKS


def test_draws_are_independent_of_each_other() -> None:
    found = directory(Alias("1", "r", additional_version="2", additional_weight=0.5))
    picks = [found.find(KEY, "live").version for _ in range(PICKS)]
    repeats = sum(one == other for one, other in pairwise(picks))
    assert repeats / PICKS == pytest.approx(0.5, abs=0.02)


def test_a_version_that_is_gone_is_not_found_and_the_function_takes_all_with_it() -> None:
    found = directory()
    found.forget(KEY, "1")
    with pytest.raises(ServiceError):
        found.find(KEY, "1")
    assert [each.version for each in found] == ["$LATEST"]
    found.forget(KEY)
    with pytest.raises(ServiceError):
        found.find(KEY, "2")
    assert len(found) == 0
