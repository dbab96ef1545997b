"""Keep the store small."""

import time
from typing import Annotated

from cyclopts import Parameter

from mcp_holdfast.cli.beside import run_beside_server
from mcp_holdfast.cli.output import iso, print_json, print_table, when
from mcp_holdfast.settings import Settings
from mcp_holdfast.storage.opening import OpenStore
from mcp_holdfast.storage.sweeper import Sweeper

KINDS = {
    "expired": "expired records",
    "temporary": "left-over temporary files",
    "quarantined": "damaged records that were set aside",
}


def sweep(*, as_json: Annotated[bool, Parameter("--json", negative="")] = False) -> int:
    """Remove now, from the whole store, what the server removes little by little; and tell what was removed so far."""

    async def work(settings: Settings, opened: OpenStore) -> int:
        sweeper = Sweeper(opened.store, opened.backend, interval=0, quarantine=settings.quarantine)
        began = time.monotonic()
        now = await sweeper.sweep_all()
        took = time.monotonic() - began
        totals = await sweeper.totals()
        if as_json:
            print_json(
                {
                    "examined": now.examined,
                    "removed": {kind: getattr(now, kind) for kind in KINDS},
                    "seconds": round(took, 3),
                    "removed_in_all": {kind: getattr(totals, kind) for kind in KINDS},
                    "since": iso(totals.since),
                }
            )
            return 0
        rows = [(str(getattr(now, kind)), str(getattr(totals, kind)), what) for kind, what in KINDS.items()]
        print_table(("now", f"since {when(totals.since)} UTC", "removed"), rows)
        print(f"examined {now.examined} records and files in {took:.1f} s")
        return 0

    return run_beside_server(work)
