import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from key_value.aio._utils.managed_entry import ManagedEntry
from key_value.aio._utils.serialization import BasicSerializationAdapter
from key_value.aio.errors import DeserializationError

from patches.filetree import names_in, open_store

SECRET = "correct horse battery staple"

GARBAGE = {
    "empty": b"",
    "torn": f'{{"value": {{"token": "{SECRET}'.encode(),
    "zeroes": bytes(512),
    "not UTF-8": SECRET.encode("utf-16"),
    "an array": json.dumps([SECRET]).encode(),
    "a string": json.dumps(SECRET).encode(),
    "nested too deep": b"[" * 100_000,
    "a number too long": b'{"value": ' + b"1" * 5_000 + b"}",
    "no fields": b"{}",
}
DAMAGED_RECORDS = GARBAGE | {
    "a value that is not an object": json.dumps({"value": [SECRET]}).encode(),
    "a value that is a torn string": json.dumps({"value": '{"token": "' + SECRET}).encode(),
    "a creation time that is a number": b'{"value": {}, "created_at": 1}',
    "an expiry that is no time": json.dumps({"value": {}, "expires_at": SECRET}).encode(),
    "an expiry without time zone": b'{"value": {}, "expires_at": "2999-01-01T00:00:00"}',
}
DAMAGED_METADATA = GARBAGE | {
    "no version": b'{"collection": "codes", "created_at": "2026-01-01T00:00:00+00:00", "directory": "codes"}',
    "a creation time that is no time": json.dumps(
        {"version": 1, "collection": "codes", "created_at": SECRET, "directory": "codes"}
    ).encode(),
}


@pytest.mark.parametrize("content", DAMAGED_RECORDS.values(), ids=DAMAGED_RECORDS)
async def test_a_damaged_record_is_a_miss_and_is_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    store = open_store(tmp_path)
    await store.put("k", {"v": 1})
    await store.put("other", {"v": 2})
    (tmp_path / "codes" / "k.json").write_bytes(content)

    assert await store.get("k") is None

    assert names_in(tmp_path / "codes") == {"k.json.corrupt", "other.json"}
    assert (tmp_path / "codes" / "k.json.corrupt").read_bytes() == content
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "codes/k.json" in record.getMessage()
    assert SECRET not in caplog.text
    assert await store.get("other") == {"v": 2}


async def test_a_key_whose_record_was_set_aside_can_be_written_again(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    await store.put("k", {"v": 1})
    (tmp_path / "codes" / "k.json").write_bytes(b"")
    assert await store.ttl("k") == (None, None)

    await store.put("k", {"v": 2})

    assert await store.get("k") == {"v": 2}


@pytest.mark.parametrize("content", DAMAGED_METADATA.values(), ids=DAMAGED_METADATA)
async def test_damaged_collection_metadata_is_set_aside_and_written_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    await open_store(tmp_path).put("k", {"v": 1})
    (tmp_path / "codes-info.json").write_bytes(content)

    assert await open_store(tmp_path).get("k") == {"v": 1}

    assert names_in(tmp_path) == {"codes", "codes-info.json", "codes-info.json.corrupt"}
    assert (tmp_path / "codes-info.json.corrupt").read_bytes() == content
    assert json.loads((tmp_path / "codes-info.json").read_text())["collection"] == "codes"
    assert "codes-info.json" in caplog.text
    assert SECRET not in caplog.text


async def test_a_directory_in_place_of_a_record_is_a_miss(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    await store.setup_collection(collection="codes")
    (tmp_path / "codes" / "k.json").mkdir()

    assert await store.get("k") is None

    assert names_in(tmp_path / "codes") == {"k.json.corrupt"}


@pytest.mark.parametrize("target", ["../../outside.json", "other.json", "nowhere.json", "k.json"])
async def test_a_symbolic_link_in_place_of_a_record_is_a_miss(tmp_path: Path, target: str) -> None:
    store = open_store(tmp_path / "data")
    await store.put("other", {"v": 2})
    (tmp_path / "outside.json").write_text('{"value": {"planted": true}}')
    (tmp_path / "data" / "codes" / "k.json").symlink_to(target)

    assert await store.get("k") is None

    assert names_in(tmp_path / "data" / "codes") == {"k.json.corrupt", "other.json"}


async def test_a_record_replaced_while_it_was_read_is_left_alone(tmp_path: Path) -> None:
    record = tmp_path / "codes" / "k.json"

    class ReplacedWhileReading(BasicSerializationAdapter):
        def prepare_load(self, data: dict[str, Any]) -> dict[str, Any]:
            replacement = record.with_name("replacement")
            replacement.write_text('{"value": {"v": 2}}')
            replacement.replace(record)
            raise DeserializationError

    await open_store(tmp_path).put("k", {"v": 1})

    assert await open_store(tmp_path, serialization_adapter=ReplacedWhileReading()).get("k") is None

    assert names_in(tmp_path / "codes") == {"k.json"}
    assert await open_store(tmp_path).get("k") == {"v": 2}


async def test_a_subclass_can_set_an_entry_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = open_store(tmp_path)
    await store.put("k", {"v": SECRET})

    await store._set_aside_entry(key="k", collection="codes")
    await store._set_aside_entry(key="never written", collection="codes")

    assert names_in(tmp_path / "codes") == {"k.json.corrupt"}
    assert await store.get("k") is None
    assert "codes/k.json" in caplog.text
    assert SECRET not in caplog.text


async def test_an_entry_that_is_no_longer_the_one_that_was_read_is_not_set_aside(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    await store.put("k", {"v": 1})
    read = await store._get_managed_entry(key="k", collection="codes")
    assert isinstance(read, ManagedEntry)
    await store.put("k", {"v": 2})

    await store._set_aside_entry(key="k", collection="codes", entry=read)
    assert await store.get("k") == {"v": 2}

    current = await store._get_managed_entry(key="k", collection="codes")
    await store._set_aside_entry(key="k", collection="codes", entry=current)
    assert await store.get("k") is None


async def test_a_record_that_cannot_be_set_aside_is_a_miss_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(tmp_path)
    await store.put("k", {"v": 1})
    (tmp_path / "codes" / "k.json").write_bytes(b"")
    (tmp_path / "codes" / "k.json.corrupt").mkdir()

    assert await store.get("k") is None

    assert names_in(tmp_path / "codes") == {"k.json", "k.json.corrupt"}
    assert os.strerror(21) in caplog.text
