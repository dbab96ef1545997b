from pathlib import Path

import pytest

from patches.filetree import open_store


async def test_reading_does_not_go_through_aiofile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await open_store(tmp_path).put("k", {"v": 1})

    async def refuse(_: object) -> None:
        pytest.fail("aiofile opened a file")

    monkeypatch.setattr("aiofile.AIOFile.open", refuse)

    assert await open_store(tmp_path).get("k") == {"v": 1}
