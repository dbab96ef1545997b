"""An NFSv4.1 server, nfs-ganesha: like EFS it serves one file system to many clients."""

import os
import signal
import socket
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.waiting import eventually
from nfs.network import HOST

PORT = 2049
LEASE = 10
"""In seconds: what a client holds ends when nothing was heard of it for so long."""

GRACE = 5
"""In seconds: so long after its start a server lets clients take back what they held, and nothing else."""

SLOTS = 1
"""How many requests of a client may be under way at once. With more of them ganesha 4.3 dies now and then of a
FREE_STATEID that meets the CLOSE of the same file, which an NFS client sends right after it when a lock ends
(nfs-ganesha issue 904, mended in 5.0)."""

CONFIGURATION = """
NFS_CORE_PARAM {{
    Protocols = 4; NFS_Port = {port}; Bind_addr = {host};
    Enable_NLM = false; Enable_RQUOTA = false; Clustered = false; allow_set_io_flusher_fail = true;
}}
NFSV4 {{
    Minor_Versions = 1; Lease_Lifetime = {lease}; Grace_Period = {grace}; Delegations = false;
    RecoveryBackend = fs; RecoveryRoot = "{directory}/recovery"; Only_Numeric_Owners = true;
    Slot_Table_Size = {slots};
}}
EXPORT {{
    Export_Id = 1; Path = {directory}/export; Pseudo = /; Access_Type = {access}; Squash = No_Root_Squash;
    SecType = sys; Protocols = 4; Transports = TCP; FSAL {{ Name = VFS; }}
}}
LOG {{ Default_Log_Level = EVENT; }}
"""

ACCESS_POINT = """
EXPORT {{
    Export_Id = 2; Path = {directory}/export{path}; Pseudo = {path}; Access_Type = {access};
    Squash = All_Squash; Anonymous_Uid = {uid}; Anonymous_Gid = {gid};
    SecType = sys; Protocols = 4; Transports = TCP; FSAL {{ Name = VFS; }}
}}
"""


@dataclass(frozen=True)
class AccessPoint:
    """A directory of the file system, where everybody is one user (Amazon EFS, "Enforcing a user identity")."""

    path: str
    uid: int
    gid: int
    permissions: int
    """Of the directory, which is made for that user when it is not there."""


class NFSServer:
    """Serves `export` in its directory, a file system of its own with room for `size` bytes (as mount takes it).

    What is below an access point is served through that only.
    """

    def __init__(self, directory: Path, size: str = "256M", access_point: AccessPoint | None = None) -> None:
        self.export = directory / "export"
        self.log = directory / "ganesha.log"
        self._directory = directory
        self._access_point = access_point
        self._filler = self.export / "filler"
        self._configuration = directory / "ganesha.conf"
        self._process: subprocess.Popen[bytes] | None = None
        for needed in (self.export, directory / "recovery"):
            needed.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "holdfast-test", self.export], check=True)
        if access_point is not None:
            root = Path(f"{self.export}{access_point.path}")
            root.mkdir(mode=access_point.permissions)
            os.chown(root, access_point.uid, access_point.gid)

    def start(self) -> "NFSServer":
        self._configure("RW")
        command = ["ganesha.nfsd", "-F", "-L", str(self.log), "-f", str(self._configuration)]
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command, "-p", str(self._directory / "ganesha.pid")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        eventually(self._is_listening, bool)
        return self

    def kill(self) -> None:
        """End it as a crash does."""
        process = self._running()
        process.kill()
        process.wait()
        self._process = None

    def hang(self) -> None:
        self._running().send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._running().send_signal(signal.SIGCONT)

    def make_read_only(self) -> None:
        self._configure("RO")
        self._running().send_signal(signal.SIGHUP)

    def make_writable(self) -> None:
        self._configure("RW")
        self._running().send_signal(signal.SIGHUP)

    def fill(self) -> None:
        """Leave no room in the file system that is served."""
        with self._filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(65536))

    def make_room(self) -> None:
        self._filler.unlink()

    def remove(self) -> None:
        """Raises RuntimeError where it has ended by itself: what clients waited for then says nothing about them."""
        try:
            if self._process is not None:
                self.kill()
        finally:
            subprocess.run(["umount", "--lazy", self.export], check=True)

    def _configure(self, access: str) -> None:
        text = CONFIGURATION.format(
            port=PORT, host=HOST, lease=LEASE, grace=GRACE, slots=SLOTS, directory=self._directory, access=access
        )
        if self._access_point is not None:
            text += ACCESS_POINT.format(directory=self._directory, access=access, **vars(self._access_point))
        self._configuration.write_text(text)

    def _is_listening(self) -> bool:
        self._running()
        try:
            with socket.create_connection((HOST, PORT), timeout=1):
                return True
        except OSError:
            return False

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the NFS server was not started")
        if (status := self._process.poll()) is not None:
            raise RuntimeError(f"the NFS server has ended by itself with {status}:\n{self.log.read_text()}")
        return self._process
