import os
from collections.abc import Iterator
from pathlib import Path
from stat import S_IMODE

import pytest

from patches.filetree import open_store, watch_system_calls


@pytest.fixture
def permissive_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("permissive_umask")
async def test_new_directories_are_the_owners_only(tmp_path: Path) -> None:
    data, metadata = tmp_path / "state" / "data", tmp_path / "state" / "metadata"

    await open_store(data, metadata_directory=metadata).setup_collection(collection="codes")

    directories = [tmp_path / "state", data, metadata, data / "codes"]
    assert [S_IMODE(directory.stat().st_mode) for directory in directories] == [0o700] * 4


async def test_a_new_collection_directory_survives_a_power_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, metadata = tmp_path / "data", tmp_path / "metadata"
    store = open_store(data, metadata_directory=metadata)
    seen = watch_system_calls(monkeypatch)

    await store.setup_collection(collection="codes")

    assert list(seen)[:2] == [("mkdir", data / "codes"), ("fsync", data)]


def test_a_new_data_directory_survives_a_power_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = watch_system_calls(monkeypatch)

    open_store(tmp_path / "state" / "data")

    assert list(seen) == [
        ("mkdir", tmp_path / "state"),
        ("fsync", tmp_path),
        ("mkdir", tmp_path / "state" / "data"),
        ("fsync", tmp_path / "state"),
    ]
