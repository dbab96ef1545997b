"""Replicas of one host name on different machines are noticed."""

import logging

import pytest

from mcp_holdfast.storage import open_store
from mcp_holdfast.storage.replicas import HostName


async def test_another_machine_of_the_same_name_is_told(caplog: pytest.LogCaptureFixture) -> None:
    store = open_store("memory")
    await HostName(store, name="replica", machine="one").tell()
    await HostName(store, name="another", machine="two").tell()
    assert caplog.records == []
    await HostName(store, name="replica", machine="two").tell()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "give each replica a host name of its own" in record.getMessage()


async def test_the_same_machine_may_start_as_often_as_it_likes(caplog: pytest.LogCaptureFixture) -> None:
    store = open_store("memory")
    for _ in range(3):
        await HostName(store).tell()
    assert caplog.records == []
