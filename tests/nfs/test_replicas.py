"""Two replicas on one NFS export go through what happens to machines, networks and servers while clients use them.

NFS_KILLS, NFS_POWER_CUTS, NFS_SERVER_KILLS, NFS_PARTITIONS, NFS_HANG_SECONDS and NFS_FAULT_SECONDS say how often and
for how long; `make nfs` asks for more than `make test`. TARGET=stock puts stock FastMCP through the same.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from harness.selection import in_every_run
from mcp_holdfast.settings import EXIT_CONFIG
from nfs.conftest import MakeHoldfast, Tell
from nfs.load import lost_afterwards, under_load
from nfs.machine import Failed
from nfs.site import Site

CALLERS = 4
KILLS = int(os.environ.get("NFS_KILLS", "2"))
POWER_CUTS = int(os.environ.get("NFS_POWER_CUTS", "1"))
SERVER_KILLS = int(os.environ.get("NFS_SERVER_KILLS", "1"))
PARTITIONS = int(os.environ.get("NFS_PARTITIONS", "1"))
HANG_SECONDS = float(os.environ.get("NFS_HANG_SECONDS", "8"))
FAULT_SECONDS = float(os.environ.get("NFS_FAULT_SECONDS", "6"))
SECONDS_EACH = 60


@dataclass(frozen=True)
class Disturbance:
    """What happens, and how many times."""

    happen: Callable[[Site], None]
    times: int = 1


DISTURBANCES = {
    "a replica is killed": Disturbance(Site.kill_a_replica, KILLS),
    "a machine loses its power": Disturbance(Site.cut_the_power_of_a_machine, POWER_CUTS),
    "the NFS server is killed": Disturbance(Site.kill_the_nfs_server, SERVER_KILLS),
    "a machine is cut off for longer than its lease": Disturbance(Site.partition_a_machine, PARTITIONS),
    f"the NFS server hangs for {HANG_SECONDS:g} s": Disturbance(lambda site: site.hang(HANG_SECONDS)),
    f"the export is full for {FAULT_SECONDS:g} s": Disturbance(lambda site: site.fill(FAULT_SECONDS)),
    f"the export is read-only for {FAULT_SECONDS:g} s": Disturbance(lambda site: site.make_read_only(FAULT_SECONDS)),
}

IN_EVERY_RUN = ("a machine loses its power",)

pytestmark = pytest.mark.timeout(3600 + SECONDS_EACH * max(KILLS, POWER_CUTS, SERVER_KILLS, PARTITIONS))


@pytest.mark.parametrize("name", in_every_run(IN_EVERY_RUN, DISTURBANCES))
def test_nothing_acknowledged_is_lost(name: str, site: Site, tell: Tell) -> None:
    disturbance = DISTURBANCES[name]
    with under_load(site.urls, CALLERS) as load:
        load.goes_on()
        for _ in range(disturbance.times):
            disturbance.happen(site)
        load.goes_on()
    lost_later = lost_afterwards(load.sessions(), site.urls)
    tell(f"{disturbance.times} times: {name}", load, lost_later, site.damaged_records())


def test_disk_is_refused_on_nfs(holdfast: MakeHoldfast) -> None:
    with pytest.raises(Failed) as refused:
        holdfast(EXA_MCP_STORAGE_BACKEND="disk").run_to_end()
    assert refused.value.status == EXIT_CONFIG
    assert "EXA_MCP_STORAGE_BACKEND: disk keeps a SQLite database, which a network file system (nfs4" in str(
        refused.value
    )


def test_it_reports_the_mount(holdfast: MakeHoldfast) -> None:
    replica = holdfast().start()
    assert "file_system=nfs4" in replica.output()
    assert "vers=4.1" in replica.output()
