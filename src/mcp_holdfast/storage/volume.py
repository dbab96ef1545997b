"""Tell whether FASTMCP_HOME is a place that keeps what is written to it."""

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mcp_holdfast.settings import Problem

NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "ceph", "glusterfs", "lustre", "afs", "gfs2", "ocfs2"}
)
MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs"})
CONTAINER_LAYERS = frozenset({"overlay", "aufs", "fuse.fuse-overlayfs"})


@dataclass(frozen=True)
class Mount:
    """One line of /proc/self/mountinfo: the mount point, type and options, and which part of the file system it is."""

    point: Path
    type: str
    options: str = ""
    root: str = "/"

    @property
    def is_network(self) -> bool:
        """Whether other machines may write to it; FUSE counts, since EFS and SMB helpers use it."""
        return self.type in NETWORK_FILE_SYSTEMS or self.type.startswith("fuse")

    @property
    def is_container_layer(self) -> bool:
        """Whether it goes away with the container."""
        # Engines without overlay mount a directory of the host's file system as the container's root.
        return self.type in CONTAINER_LAYERS or (self.point == Path("/") and self.root != "/")


def mount_of(path: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> Mount:
    """The mount that holds `path` (proc(5), mountinfo)."""
    found = Mount(Path("/"), "unknown")
    resolved = path.resolve()
    for line in mountinfo.read_text(encoding="utf-8").splitlines():
        fields = line.split(" ")
        point = Path(_unescape(fields[4]))
        separator = fields.index("-")
        if resolved.is_relative_to(point) and point.is_relative_to(found.point):
            found = Mount(point, fields[separator + 1], f"{fields[5]},{fields[separator + 3]}", fields[3])
    return found


def warnings_of(mount: Mount) -> list[str]:
    """What is wrong with a volume that can be used all the same (nfs(5), mount options)."""
    options = set(mount.options.split(","))
    warnings = []
    if mount.type in MEMORY_FILE_SYSTEMS:
        warnings.append(f"is in memory ({mount.type}): a restart loses every sign-in")
    if mount.type not in {"nfs", "nfs4"}:
        return warnings
    if options & {"soft", "softerr"}:
        warnings.append("is mounted soft: writes fail where the server is slow; mount it hard")
    if options & {"nolock", "local_lock=all", "local_lock=flock"}:
        warnings.append("keeps locks to this machine: other replicas do not see them; mount it with local_lock=none")
    if any(option.startswith("vers=") and not option.startswith("vers=4") for option in options):
        warnings.append("is mounted with an old version of NFS; mount it with vers=4.1")
    return warnings


def _unescape(field: str) -> str:
    return re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), field)


def volume_problems(home: Path, backend: str) -> list[Problem]:
    """What keeps this backend from storing its state under `home`. The directory is made if it is not there."""
    if backend == "memory":
        return []
    if problem := _not_writable(home):
        return [problem]
    mount = mount_of(home)
    problems = []
    if mount.is_container_layer:
        problems.append(
            Problem(
                "FASTMCP_HOME",
                f"{home} is on the container's own layer ({mount.type}): sign-ins would be lost with the container",
                f"Mount a volume there (docker run -v holdfast:{home}), or set EXA_MCP_STORAGE_BACKEND=memory",
            )
        )
    if backend == "disk" and mount.is_network:
        problems.append(
            Problem(
                "EXA_MCP_STORAGE_BACKEND",
                f"disk keeps a SQLite database, which a network file system ({mount.type} at {mount.point}) destroys",
                "Use filetree, which is made for it, or put FASTMCP_HOME on a local disk",
            )
        )
    return problems


def _not_writable(home: Path) -> Problem | None:
    user = f"user {os.geteuid()}:{os.getegid()}"
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        return Problem("FASTMCP_HOME", f"{home} is not a directory", "Name a directory on a volume")
    except OSError as error:
        return Problem("FASTMCP_HOME", f"{user} cannot make {home}: {error.strerror}", "Mount a volume there")
    try:
        with tempfile.TemporaryFile(dir=home) as probe:
            probe.write(b"holdfast")
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        remedy = f"Make the volume writable for {user}, with space left, or run as the user who owns it"
        return Problem("FASTMCP_HOME", f"{user} cannot write to {home}: {error.strerror}", remedy)
    return None
