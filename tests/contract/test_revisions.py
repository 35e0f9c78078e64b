"""Revisions that change without a call: when what is provisioned has come to be there (lambda.md §1.13)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.contract.test_triggers import wait_for
from tests.stub_manager import StubManager, stub_managing


def revision(manager: StubManager, version: str) -> str:
    answer: Any = manager.client().get_function_configuration(FunctionName="f", Qualifier=version)
    return str(answer["RevisionId"])


def test_a_version_gets_a_new_revision_once_its_provisioned_concurrency_is_ready(tmp_path: Path) -> None:
    with stub_managing(tmp_path) as manager:
        manager.create("f")
        client = manager.client()
        version = client.publish_version(FunctionName="f")["Version"]
        before, latest = revision(manager, version), revision(manager, "$LATEST")
        client.put_provisioned_concurrency_config(
            FunctionName="f", Qualifier=version, ProvisionedConcurrentExecutions=2
        )
        wait_for(lambda: revision(manager, version) != before, "the revision stays")
        told = client.get_provisioned_concurrency_config(FunctionName="f", Qualifier=version)
        assert told["Status"] == "READY"
        after = revision(manager, version)
        assert revision(manager, "$LATEST") == latest
        manager.kill()
        manager.start()

        def is_ready() -> bool:
            told = client.get_provisioned_concurrency_config(FunctionName="f", Qualifier=version)
            return bool(told["Status"] == "READY")

        wait_for(is_ready, "it does not come back")
        manager.stop()  # whatever was to be written is
        manager.start()
        assert revision(manager, version) == after
