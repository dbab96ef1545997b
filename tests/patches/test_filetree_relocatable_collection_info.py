import json
import shutil
from pathlib import Path

from patches.filetree import open_store


async def test_a_copied_data_directory_works_at_its_new_path(tmp_path: Path) -> None:
    await open_store(tmp_path / "before").put("k", {"v": 1})
    shutil.copytree(tmp_path / "before", tmp_path / "after")
    shutil.rmtree(tmp_path / "before")

    store = open_store(tmp_path / "after")

    assert await store.get("k") == {"v": 1}
    await store.put("k", {"v": 2})
    assert await store.get("k") == {"v": 2}
    assert await store.delete("k")
    assert not (tmp_path / "before").exists()


async def test_a_directory_moved_from_the_unpatched_package_works(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data")
    await store.put("k", {"v": 1})
    info_file = tmp_path / "data" / "codes-info.json"
    info_file.write_text(json.dumps(json.loads(info_file.read_text()) | {"directory": "/somewhere/else/codes"}))

    assert await open_store(tmp_path / "data").get("k") == {"v": 1}


async def test_no_file_holds_an_absolute_path(tmp_path: Path) -> None:
    await open_store(tmp_path).put("k", {"v": 1})

    assert [path for path in tmp_path.rglob("*.json") if str(tmp_path) in path.read_text()] == []
    assert json.loads((tmp_path / "codes-info.json").read_text())["directory"] == "codes"
