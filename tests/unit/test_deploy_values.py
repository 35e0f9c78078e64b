"""Templates: as they are read, their intrinsics and parameters resolved, their resources ordered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rie.deploy.graph import needs, ordered
from rie.deploy.intrinsics import Scope, Unknown
from rie.deploy.parameters import values_of
from rie.deploy.template import Template, parse
from rie.errors import TemplateInvalid

SCOPE = Scope(
    values={"Stage": "dev", "AWS::Region": "eu-west-1", "List": ["a", "b", "c"], "Flag": "true"},
    mappings={"Sizes": {"dev": {"memory": 128, "names": ["x", "y"]}}},
    conditions={
        "IsDev": {"Fn::Equals": [{"Ref": "Stage"}, "dev"]},
        "IsFlag": {"Fn::Equals": [{"Ref": "Flag"}, True]},
        "Neither": {"Fn::Not": [{"Fn::Or": [{"Condition": "IsDev"}, {"Condition": "IsFlag"}]}]},
        "Both": {"Fn::And": [{"Condition": "IsDev"}, {"Condition": "IsFlag"}]},
        "Circle": {"Fn::Not": [{"Condition": "Circle"}]},
    },
    resources=frozenset({"Queue", "Later"}),
    known={"Queue": frozenset({"Arn"}), "Later": frozenset({"Arn"})},
    refs={"Queue": "http://queue"},
    attributes={"Queue": {"Arn": "arn:queue"}},
)


def read(text: str) -> Template:
    return parse(text, Path("/nowhere/template.yaml"))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ({"Ref": "Stage"}, "dev"),
        ({"Ref": "Queue"}, "http://queue"),
        ({"Ref": "Later"}, Unknown("Later")),
        ({"Fn::GetAtt": ["Queue", "Arn"]}, "arn:queue"),
        ({"Fn::GetAtt": "Queue.Arn"}, "arn:queue"),
        ({"Fn::GetAtt": ["Later", "Arn"]}, Unknown("Later")),
        ({"Fn::Sub": "${Stage}-${AWS::Region}-${Queue.Arn}-${!Left}"}, "dev-eu-west-1-arn:queue-${Left}"),
        ({"Fn::Sub": ["${x}/${Stage}", {"x": {"Ref": "Queue"}}]}, "http://queue/dev"),
        ({"Fn::Sub": "${Stage}${Later.Arn}"}, Unknown("Later")),
        ({"Fn::Join": ["-", ["a", {"Ref": "Stage"}, 7]]}, "a-dev-7"),
        ({"Fn::Join": [",", {"Ref": "List"}]}, "a,b,c"),
        ({"Fn::Join": ["", ["a", {"Ref": "Later"}]]}, Unknown("Later")),
        ({"Fn::Split": ["-", "a-b"]}, ["a", "b"]),
        ({"Fn::Select": ["1", {"Fn::Split": ["-", "a-b"]}]}, "b"),
        ({"Fn::Select": [0, {"Fn::Split": [":", {"Fn::GetAtt": ["Later", "Arn"]}]}]}, Unknown("Later")),
        ({"Fn::If": ["IsDev", "yes", "no"]}, "yes"),
        ({"Fn::If": ["Neither", "yes", "no"]}, "no"),
        ({"Fn::If": ["Both", "yes", "no"]}, "yes"),
        ({"a": {"Fn::If": ["Neither", 1, {"Ref": "AWS::NoValue"}]}, "b": 2}, {"b": 2}),
        ([1, {"Ref": "AWS::NoValue"}, 3], [1, 3]),
        ({"Fn::FindInMap": ["Sizes", {"Ref": "Stage"}, "memory"]}, 128),
        ({"Fn::FindInMap": ["Sizes", "dev", "names"]}, ["x", "y"]),
        ({"Fn::Base64": "hello"}, "aGVsbG8="),
        ({"Condition": {"StringEquals": {"a": {"Ref": "Stage"}}}}, {"Condition": {"StringEquals": {"a": "dev"}}}),
    ],
)
def test_an_intrinsic_is_worth(written: Any, meant: Any) -> None:
    assert SCOPE.resolve(written) == meant


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ({"Ref": "Nobody"}, "no such parameter or resource"),
        ({"Fn::GetAtt": ["Nobody", "Arn"]}, "no such resource"),
        ({"Fn::GetAtt": ["Queue", "Colour"]}, r"no such attribute \(it has Arn\)"),
        ({"Fn::GetAtt": ["Later", "Colour"]}, "no such attribute"),
        ({"Fn::GetAtt": ["Later"]}, "a list of 2"),
        ({"Fn::Sub": "${Nobody}"}, "no such parameter or resource"),
        ({"Fn::Sub": "${List}"}, "a text is wanted"),
        ({"Fn::Select": [3, {"Ref": "List"}]}, "no element 3"),
        ({"Fn::Select": [-1, {"Ref": "List"}]}, "no element -1"),
        ({"Fn::FindInMap": ["Sizes", "prod", "memory"]}, "no Sizes.prod.memory"),
        ({"Fn::If": ["Unheard", 1, 2]}, "condition Unheard is not defined"),
        ({"Fn::If": ["Circle", 1, 2]}, "refers to itself"),
        ({"Fn::ImportValue": "x"}, "stacks share nothing"),
        ({"Fn::Cidr": ["10.0.0.0/8", 1, 1]}, "Fn::Cidr is not supported"),
        ({"Fn::Join": ["-", "text"]}, "a list to join"),
    ],
)
def test_an_intrinsic_that_means_nothing_is_refused(written: Any, why: str) -> None:
    with pytest.raises(TemplateInvalid, match=why):
        SCOPE.resolve(written)


def test_short_tags_are_long_ones_and_dates_are_texts() -> None:
    template = read(
        "AWSTemplateFormatVersion: 2010-09-09\n"
        "Resources:\n"
        "  A:\n"
        "    Type: AWS::SQS::Queue\n"
        "    Properties: {a: !GetAtt B.C.D, b: !Sub '${X}', c: !Join [',', [!Ref Y]], d: yes, e: 0o7, f: 5, g: null}\n"
        "  B: {Type: AWS::SQS::Queue}\n"
    )
    assert template.document["AWSTemplateFormatVersion"] == "2010-09-09"
    assert template.document["Resources"]["A"]["Properties"] == {
        "a": {"Fn::GetAtt": ["B", "C.D"]},
        "b": {"Fn::Sub": "${X}"},
        "c": {"Fn::Join": [",", [{"Ref": "Y"}]]},
        "d": True,
        "e": "0o7",
        "f": 5,
        "g": None,
    }
    assert template.where("A") == "A (template.yaml:3)"
    assert template.where("B") == "B (template.yaml:6)"
    assert template.where("Made") == "Made"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Resources: {}", "a mapping with Resources"),
        ("- 1", "a mapping with Resources"),
        ("", "a mapping with Resources"),
        ("Resources: [", "cannot read template.yaml"),
        ("Resources:\n  A: {Type: T}\n  A: {Type: T}", "template.yaml:3: A is given twice"),
        ("Resources:\n  A-b: {Type: T}", r"A-b \(template.yaml:2\): a logical id"),
        ("Resources:\n  A: {Kind: T}", r"A \(template.yaml:2\): a resource has a Type"),
        ("Resources:\n  A: {Type: T, Propertys: {}}", "attribute Propertys is not known"),
        ("Transform: AWS::Include\nResources:\n  A: {Type: T}", "transform AWS::Include is not supported"),
        ("Resource: {}\nResources:\n  A: {Type: T}", "section Resource is not known"),
        ("Resources: " + "[" * 300 + "]" * 300, "nests too deep"),
    ],
)
def test_a_template_that_is_none_is_refused(text: str, why: str) -> None:
    with pytest.raises(TemplateInvalid, match=why):
        read(text)


def test_a_resource_comes_after_what_it_refers_to_and_depends_on() -> None:
    resources = {
        "Mapping": {"Properties": {"a": {"Fn::GetAtt": ["Queue", "Arn"]}, "b": {"Ref": "Function"}}},
        "Function": {"Properties": {"v": {"Fn::Sub": "${Table} ${AWS::Region} ${!Bucket} ${Stage}"}}},
        "Bucket": {"DependsOn": ["Permission"]},
        "Permission": {"Properties": {"x": [{"Fn::Sub": ["${own} ${Queue.Arn}", {"own": {"Ref": "Function"}}]}]}},
        "Queue": {},
        "Table": {},
    }
    names = frozenset(resources)
    needed = {name: needs(resource, names) for name, resource in resources.items()}
    assert needed == {
        "Mapping": {"Queue", "Function"},
        "Function": {"Table"},
        "Bucket": {"Permission"},
        "Permission": {"Function", "Queue"},
        "Queue": frozenset(),
        "Table": frozenset(),
    }
    assert ordered(needed) == ["Queue", "Table", "Function", "Mapping", "Permission", "Bucket"]


def test_a_circle_is_named() -> None:
    needed = {"A": frozenset({"B"}), "B": frozenset({"C"}), "C": frozenset({"A"})}
    with pytest.raises(TemplateInvalid, match=r"[ABC] needs [ABC] needs [ABC] needs [ABC]"):
        ordered(needed)


def test_parameters_have_their_defaults_and_lists_are_lists() -> None:
    declared = {
        "Stage": {"Type": "String", "Default": "dev"},
        "Size": {"Type": "Number", "Default": 5},
        "Flag": {"Type": "String", "Default": True},
        "Names": {"Type": "CommaDelimitedList"},
    }
    values, problems = values_of(declared, {"Names": "a, b", "Stage": "prod"})
    assert values == {"Stage": "prod", "Size": "5", "Flag": "true", "Names": ["a", "b"]}
    assert problems == []


@pytest.mark.parametrize(
    ("about", "value", "why"),
    [
        ({"Type": "String"}, None, "a value is needed, --parameter P=VALUE"),
        ({"Type": "Number"}, "many", "'many' is no number"),
        ({"Type": "String", "AllowedValues": ["a", "b"]}, "c", "'c' is none of a, b"),
        ({"Type": "String", "AllowedPattern": "[a-z]+"}, "A1", "'A1' does not match"),
        ({"Type": "String", "AllowedPattern": "[a-z]+", "ConstraintDescription": "small"}, "A1", "small"),
        ({"Type": "String", "MinLength": 3}, "ab", "a length of 2, and 3 to any"),
        ({"Type": "Number", "MaxValue": "10"}, "11", "is 11, and any to 10"),
        ({"Type": "Number", "NoEcho": True}, "secret", "its value is no number"),
        ({"Type": "AWS::SSM::Parameter::Value<String>"}, "x", "there is no parameter store"),
    ],
)
def test_a_parameter_that_is_not_allowed_is_refused(about: dict[str, Any], value: str | None, why: str) -> None:
    _, problems = values_of({"P": about}, {} if value is None else {"P": value})
    assert len(problems) == 1
    assert why in problems[0]


def test_a_parameter_that_the_template_does_not_have_is_refused() -> None:
    assert values_of({}, {"X": "1"})[1] == ["parameter X: the template has none of this name"]
