"""FASTMCP_HOME: what it must be, and the message where it is not."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_holdfast.storage import volume
from mcp_holdfast.storage.volume import Mount, mount_of, volume_problems, warnings_of


def only_problem(home: Path, backend: str = "filetree") -> str:
    (problem,) = volume_problems(home, backend)
    assert problem.variable in {"FASTMCP_HOME", "EXA_MCP_STORAGE_BACKEND"}
    return str(problem)


@pytest.fixture
def small_volume(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 KiB."""
    volume = tmp_path / "volume"
    volume.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(volume)], check=True)
    yield volume
    subprocess.run(["umount", str(volume)], check=True)


def test_a_home_that_is_not_there_is_made_for_its_owner_only(tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"
    assert volume_problems(home, "filetree") == []
    assert home.stat().st_mode & 0o777 == 0o700


def test_checking_leaves_nothing_behind(tmp_path: Path) -> None:
    volume_problems(tmp_path, "filetree")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_home(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "is not a directory" in only_problem(tmp_path / "file")
    assert "cannot make" in only_problem(tmp_path / "file" / "below")


def test_a_full_volume_is_refused(small_volume: Path) -> None:
    (small_volume / "ballast").write_bytes(b"x" * 64 * 1024)
    assert "No space left on device" in only_problem(small_volume)


def test_a_read_only_volume_is_refused(small_volume: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_volume)], check=True)
    assert "Read-only file system" in only_problem(small_volume)


def test_a_volume_of_another_user_is_refused_with_both_named(open_path: Path) -> None:
    (open_path / "theirs").mkdir(mode=0o700)
    code = (
        "import os, sys; from pathlib import Path; from mcp_holdfast.storage.volume import volume_problems;"
        "os.setgid(12345); os.setuid(12345); print(*volume_problems(Path(sys.argv[1]), 'filetree'))"
    )
    command = [sys.executable, "-c", code, str(open_path / "theirs")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "user 12345:12345 cannot write to" in printed
    assert "Permission denied" in printed


def test_the_longest_mount_point_holds_a_path(tmp_path: Path) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(
        "1 0 0:1 / / rw - overlay overlay rw\n"
        "2 1 0:2 / /data rw,relatime shared:1 - nfs4 host:/ rw,vers=4.1\n"
        "3 1 0:3 / /data/with\\040space rw - ext4 /dev/x rw\n"
    )
    assert mount_of(Path("/data/oauth"), mountinfo) == Mount(Path("/data"), "nfs4", "rw,relatime,rw,vers=4.1")
    assert mount_of(Path("/data/with space/x"), mountinfo).type == "ext4"
    assert mount_of(Path("/database"), mountinfo).type == "overlay"


@pytest.mark.parametrize("type_", ["nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "fuse", "fuse.efs", "fuse.sshfs"])
def test_disk_is_refused_on_a_network_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, type_: str) -> None:
    monkeypatch.setattr(volume, "mount_of", lambda home: Mount(home, type_))
    problem = only_problem(tmp_path, "disk")
    assert problem.startswith("EXA_MCP_STORAGE_BACKEND: disk keeps a SQLite database")
    assert type_ in problem
    assert "Use filetree" in problem
    assert volume_problems(tmp_path, "filetree") == []


@pytest.mark.parametrize(
    "layer", [Mount(Path("/"), "overlay"), Mount(Path("/"), "ext4", root="/var/lib/docker/vfs/dir/0123")]
)
def test_the_containers_own_layer_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layer: Mount) -> None:
    monkeypatch.setattr(volume, "mount_of", lambda _: layer)
    problem = only_problem(tmp_path)
    assert f"container's own layer ({layer.type})" in problem
    assert f"docker run -v holdfast:{tmp_path}" in problem


def test_memory_needs_no_volume(tmp_path: Path) -> None:
    assert volume_problems(tmp_path / "not" / "made", "memory") == []
    assert not (tmp_path / "not").exists()


@pytest.mark.parametrize(
    ("type_", "options", "said"),
    [
        ("tmpfs", "rw", "is in memory"),
        ("nfs4", "rw,vers=4.1,soft,local_lock=none", "is mounted soft"),
        ("nfs4", "rw,vers=4.1,hard,local_lock=all", "keeps locks to this machine"),
        ("nfs", "rw,vers=3,hard,nolock", "keeps locks to this machine"),
        ("nfs", "rw,vers=3,hard", "an old version of NFS"),
    ],
)
def test_options_of_a_mount_that_make_trouble_are_told(type_: str, options: str, said: str) -> None:
    assert any(said in warning for warning in warnings_of(Mount(Path("/data"), type_, options)))


def test_the_options_that_efs_is_mounted_with_are_fine() -> None:
    options = "rw,relatime,vers=4.1,rsize=1048576,wsize=1048576,namlen=255,hard,noresvport,proto=tcp,local_lock=none"
    assert warnings_of(Mount(Path("/data"), "nfs4", options)) == []
