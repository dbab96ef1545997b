"""Two replicas on one NFS export, and everything that can happen to them."""

import random
import time
from dataclasses import dataclass
from pathlib import Path

from nfs.machine import MOUNT_POINT
from nfs.replica import Replica
from nfs.server import LEASE, NFSServer

LONGEST_WAIT = 1.5
LONGER_THAN_THE_LEASE = LEASE + 5.0


@dataclass
class Site:
    """Servers of one kind in a machine each, whose directory is on the export of one NFS server."""

    server: NFSServer
    replicas: list[Replica]
    moments: random.Random

    @property
    def urls(self) -> list[str]:
        return [replica.url for replica in self.replicas]

    def start(self) -> None:
        for replica in self.replicas:
            replica.launch()
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        for replica in self.replicas:
            replica.wait_until_ready()

    def damaged_records(self) -> list[Path]:
        """What a replica could not read and has set aside."""
        return list(self.server.export.rglob("*.corrupt"))

    def kill_a_replica(self) -> None:
        """Some kills hit one that is still starting."""
        replica = self._any_replica_at_any_moment()
        replica.kill()
        replica.launch()
        if self.moments.random() < 0.8:
            replica.wait_until_ready()

    def cut_the_power_of_a_machine(self) -> None:
        replica = self._any_replica_at_any_moment()
        replica.machine.cut_power()
        replica.machine.boot()
        replica.start()

    def kill_the_nfs_server(self) -> None:
        self._any_replica_at_any_moment()
        self.server.kill()
        self.server.start()
        self._wait_until_served()

    def partition_a_machine(self) -> None:
        machine = self._any_replica_at_any_moment().machine
        machine.cut_network()
        time.sleep(LONGER_THAN_THE_LEASE)
        machine.connect_network()
        self._wait_until_served()

    def hang(self, seconds: float) -> None:
        self.server.hang()
        time.sleep(seconds)
        self.server.go_on()
        self._wait_until_served()

    def fill(self, seconds: float) -> None:
        self.server.fill()
        time.sleep(seconds)
        self.server.make_room()
        self._wait_until_served()

    def make_read_only(self, seconds: float) -> None:
        self.server.make_read_only()
        time.sleep(seconds)
        self.server.make_writable()
        self._wait_until_served()

    def _any_replica_at_any_moment(self) -> Replica:
        time.sleep(self.moments.uniform(0, LONGEST_WAIT))
        return self.moments.choice(self.replicas)

    def _wait_until_served(self) -> None:
        """Wait until files can be opened again, which a server that has just started allows after its grace time."""
        for replica in self.replicas:
            replica.machine.run("touch", f"{MOUNT_POINT}/{replica.machine.name}")
        self.wait_until_ready()
