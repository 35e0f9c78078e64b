"""Credentials of execution roles, and the files that keys are in."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from rie.clock import SystemClock
from rie.errors import CredentialsUnavailable, ServiceError, SettingsError
from rie.iam.keys import Keys, from_environment, read_keys, write_document
from rie.iam.roles import CANNOT_ASSUME, OwnSource, RoleCredentials, StsSource, static_source
from rie.iam.sessions import Credentials, Sessions, master_key, session_name
from rie.iam.setup import authentication_for
from rie.settings import Settings, read

ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/app"


class Source:
    """Gives credentials that last as long as it is told to."""

    blocks = True

    def __init__(self, lifetime_s: float = 3_600) -> None:
        self.lifetime_s = lifetime_s
        self.calls: list[tuple[str, str]] = []
        self.error: Exception | None = None
        self.may_answer = threading.Event()
        self.may_answer.set()

    def assume(self, role_arn: str, name: str) -> Credentials:
        assert self.may_answer.wait(10)
        if self.error is not None:
            raise self.error
        self.calls.append((role_arn, name))
        return Credentials(f"ASIA{len(self.calls)}", "secret", "token", time.time() + self.lifetime_s)

    def check(self, role_arn: str, name: str) -> None:
        self.assume(role_arn, name)


def test_credentials_are_fetched_once_for_each_role_and_function() -> None:
    async def story() -> None:
        source = Source()
        roles = RoleCredentials(source)
        found = await asyncio.gather(*(roles.get(ROLE, "f", 60) for _ in range(10)))
        assert {each.access_key_id for each in found} == {"ASIA1"}
        await roles.get(ROLE, "g", 60)
        assert source.calls == [(ROLE, "f"), (ROLE, "g")]

    asyncio.run(story())


def test_what_was_fetched_ahead_is_waited_for_by_nobody() -> None:
    async def story() -> None:
        source = Source()
        roles = RoleCredentials(source)
        roles.prepare(ROLE, "f")
        await roles.get(ROLE, "f", 60)
        source.may_answer.clear()
        assert (await roles.get(ROLE, "f", 60)).access_key_id == "ASIA1"
        source.may_answer.set()
        await roles.close()

    asyncio.run(story())


def test_half_spent_credentials_are_renewed_while_the_old_ones_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        source = Source()
        roles = RoleCredentials(source)
        await roles.get(ROLE, "f", 60)
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 2_000)
        assert (await roles.get(ROLE, "f", 60)).access_key_id == "ASIA1"
        await asyncio.gather(*roles._fetching.values())
        assert (await roles.get(ROLE, "f", 60)).access_key_id == "ASIA2"
        monkeypatch.setattr(time, "time", lambda: now + 5_590)
        assert (await roles.get(ROLE, "f", 60)).access_key_id == "ASIA3", "the old ones end too soon"

    asyncio.run(story())


def test_a_failure_reaches_who_needs_the_credentials_and_is_not_remembered() -> None:
    async def story() -> None:
        source = Source()
        source.error = CredentialsUnavailable("cannot assume it: no answer")
        roles = RoleCredentials(source)
        with pytest.raises(CredentialsUnavailable):
            await roles.get(ROLE, "f", 60)
        source.error = None
        assert (await roles.get(ROLE, "f", 60)).access_key_id == "ASIA1"

    asyncio.run(story())


class StsClient:
    """Answers as boto3's client for STS does."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.asked: list[dict[str, Any]] = []

    def assume_role(self, **members: Any) -> Any:
        from datetime import UTC, datetime

        self.asked.append(members)
        if self.error is not None:
            raise self.error
        until = datetime.fromtimestamp(2_000_000_000, UTC)
        return {"Credentials": {"AccessKeyId": "A", "SecretAccessKey": "S", "SessionToken": "T", "Expiration": until}}


def test_a_role_is_assumed_under_the_functions_name() -> None:
    client = StsClient()
    assert StsSource(client).assume(ROLE, "f") == Credentials("A", "S", "T", 2_000_000_000)
    StsSource(client).assume(ROLE, "function")
    assert [each["RoleSessionName"] for each in client.asked] == ["f@lambda_function", "function"]


@pytest.mark.parametrize(("status", "kind"), [(403, ServiceError), (404, ServiceError), (500, CredentialsUnavailable)])
def test_a_refusal_is_told_from_a_breakdown(status: int, kind: type[Exception]) -> None:
    from botocore.exceptions import ClientError

    answer: Any = {"Error": {"Code": "X", "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    with pytest.raises(kind) as caught:
        StsSource(StsClient(ClientError(answer, "AssumeRole"))).check(ROLE, "f")
    if isinstance(caught.value, ServiceError):
        assert (caught.value.code, caught.value.message) == ("InvalidParameterValueException", CANNOT_ASSUME)


def test_the_settable_credentials_are_every_functions() -> None:
    found = static_source({"RIE_FUNCTION_ACCESS_KEY_ID": "AK", "RIE_FUNCTION_SECRET_ACCESS_KEY": "SK"})
    assert found is not None
    credentials = asyncio.run(RoleCredentials(found).get(ROLE, "f", 60))
    assert credentials.variables() == {"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "SK"}
    assert static_source({"AWS_ACCESS_KEY_ID": "MANAGER", "AWS_SECRET_ACCESS_KEY": "S"}) is None


def test_sessions_of_our_own_survive_a_restart_and_are_nobody_elses(tmp_path: Path) -> None:
    issued = OwnSource(Sessions(master_key(tmp_path))).assume(ROLE, "f")
    again = Sessions(master_key(tmp_path)).recognise(issued.access_key_id, issued.session_token)
    assert again is not None
    assert (again.secret_access_key, again.arn) == (
        issued.secret_access_key,
        f"arn:aws:sts::{ACCOUNT}:assumed-role/app/f",
    )
    other = tmp_path / "other"
    other.mkdir()
    assert Sessions(master_key(other)).recognise(issued.access_key_id, issued.session_token) is None
    assert (tmp_path / "session-key").stat().st_mode & 0o777 == 0o600
    for token in ("", "x", "é", "A" * 10_000, issued.session_token[:-4]):
        assert Sessions(master_key(tmp_path)).recognise(issued.access_key_id, token) is None


def test_one_character_is_too_little_for_a_session() -> None:
    assert (session_name("f"), session_name("fn")) == ("f@lambda_function", "fn")


# -- keys -------------------------------------------------------------------------------------------------------------

ADA = {"secret": "s" * 20, "user": "ada"}


def test_a_file_of_keys(tmp_path: Path) -> None:
    (tmp_path / "read.json").write_text('{"Statement":{"Effect":"Allow","Action":"lambda:Get*","Resource":"*"}}')
    entries = {
        "AKIA1": ADA,
        "AKIA2": {**ADA, "account": "210987654321", "policies": ["read.json"], "organization": "o-1"},
        "AKIA3": {"secret": "s" * 20, "service": "s3.amazonaws.com"},
        "AKIA4": {"secret": "s" * 20, "arn": f"arn:aws:iam::{ACCOUNT}:root"},
    }
    write_document(tmp_path / "keys.json", {"keys": entries, "roles": {ROLE: {"policies": "full"}}})
    found = read_keys(tmp_path / "keys.json", ACCOUNT)
    callers = {name: (known.caller.kind, known.caller.arn) for name, known in found.keys.items()}
    assert callers == {
        "AKIA1": ("user", f"arn:aws:iam::{ACCOUNT}:user/ada"),
        "AKIA2": ("user", "arn:aws:iam::210987654321:user/ada"),
        "AKIA3": ("service", "s3.amazonaws.com"),
        "AKIA4": ("root", f"arn:aws:iam::{ACCOUNT}:root"),
    }
    assert [known.caller.is_trusted for known in found.keys.values()] == [True, False, False, True]
    assert found.roles == {ROLE: None}


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"keys": {"AKIA": {}}}, "its secret has less than 8 characters"),
        ({"keys": {"AKIA": {**ADA, "account": "1"}}}, "'1' is not 12 digits"),
        ({"keys": {"AKIA": {**ADA, "acount": ACCOUNT}}}, "nothing is known of acount"),
        ({"keys": {"A/B/C": ADA}}, "its id is not made of letters and digits"),
        ({"keys": {"AKIA": {**ADA, "arn": "arn:aws:iam::210987654321:user/x"}}}, "is no IAM ARN of account"),
        ({"keys": {"AKIA": {**ADA, "policies": ["gone.json"]}}}, "policy gone.json: No such file"),
        ({"keys": {"AKIA": {**ADA, "policies": [{}]}}}, "its policy can't be read: it has no Statement"),
        ({"keys": []}, "keys is not an object of objects"),
        ([], "it is not a JSON object"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_what_is_wrong(tmp_path: Path, document: Any, says: str) -> None:
    path = tmp_path / "keys.json"
    write_document(path, document)
    with pytest.raises(SettingsError) as caught:
        read_keys(path, ACCOUNT)
    assert says in str(caught.value)


def test_keys_that_others_may_read_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    write_document(path, {"keys": {"AKIA": ADA}})
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    with pytest.raises(SettingsError, match="chmod 600"):
        read_keys(path, ACCOUNT)


def test_a_changed_file_is_read_again_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    write_document(path, {"keys": {"AKIA1": ADA}})
    keys = Keys(path, ACCOUNT, {})
    write_document(path, {"keys": {"AKIA2": ADA}})
    keys._look_at = 0.0
    assert (keys.find("AKIA1"), keys.find("AKIA2") is None) == (None, False)
    path.write_text("{")
    os.utime(path, (1, 1))
    keys._look_at = 0.0
    assert keys.find("AKIA2") is not None


def test_the_key_of_the_environment_is_whole_or_refused() -> None:
    assert from_environment({}, ACCOUNT) == {}
    with pytest.raises(SettingsError, match="set both"):
        from_environment({"RIE_ACCESS_KEY_ID": "AKIA"}, ACCOUNT)


def test_a_first_key_is_made_where_there_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(data=tmp_path, auth=True)
    sessions = Sessions(master_key(tmp_path))
    assert authentication_for(settings, sessions, SystemClock(), {}) is not None
    ((access_key, known),) = read_keys(settings.keys_path, ACCOUNT).keys.items()
    said = capsys.readouterr().err
    assert (access_key in said, known.secret in said) == (True, False)
    authentication_for(settings, sessions, SystemClock(), {})
    assert len(read_keys(settings.keys_path, ACCOUNT).keys) == 1
    assert authentication_for(Settings(data=tmp_path), sessions, SystemClock(), {}) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "", "example.com"])
def test_another_address_needs_authentication(host: str) -> None:
    with pytest.raises(SettingsError, match="--auth"):
        Settings(host=host)
    assert Settings(host=host, auth=True).host == host
    assert Settings(host=host, insecure_no_auth=True).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_this_machine_alone_needs_none(host: str) -> None:
    assert not Settings(host=host).auth


def test_switches_in_the_environment() -> None:
    assert read({"RIE_AUTH": "1"}).auth
    assert not read({"RIE_AUTH": "0"}).auth
    assert read({"RIE_HOST": "0.0.0.0", "RIE_INSECURE_NO_AUTH": "yes"}).insecure_no_auth
    with pytest.raises(SettingsError, match="neither 1 nor 0"):
        read({"RIE_AUTH": "perhaps"})
    with pytest.raises(SettingsError, match="choose one of"):
        read({"RIE_ROLE_CREDENTIALS": "other"})
