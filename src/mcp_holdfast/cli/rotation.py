"""Change the key that the store is sealed with."""

import sys
from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter

from mcp_holdfast.cli.beside import EXIT_STORE_FAILED, EXIT_USAGE, run_beside_server
from mcp_holdfast.cli.output import print_json
from mcp_holdfast.settings import Settings
from mcp_holdfast.storage.opening import OpenSealedStore
from mcp_holdfast.storage.rotation import HANDOVER, Rotated
from mcp_holdfast.storage.rotation import rotate as rotate_store


def rotate(*, as_json: Annotated[bool, Parameter("--json", negative="")] = False) -> int:
    """Seal everything with HOLDFAST_STORAGE_KEY, so that HOLDFAST_STORAGE_KEY_PREVIOUS can go; servers may run."""

    async def work(_: Settings, opened: OpenSealedStore) -> int:
        if not opened.store.has_previous_keys:
            what = "HOLDFAST_STORAGE_KEY_PREVIOUS is not set, so there is nothing to rotate: give the new key as "
            sys.stderr.write(f"{what}HOLDFAST_STORAGE_KEY, and the one until now as HOLDFAST_STORAGE_KEY_PREVIOUS\n")
            return EXIT_USAGE
        sys.stderr.write(f"every replica seals with the new key in {HANDOVER:.0f} s; then what is stored is renewed\n")
        rotated = Rotated()
        async for rotated in rotate_store(opened.store, opened.backend):
            sys.stderr.write(f"examined {rotated.examined}, renewed {rotated.renewed}\n")
        if as_json:
            print_json(asdict(rotated))
        return _tell(rotated)

    return run_beside_server(work)


def _tell(rotated: Rotated) -> int:
    if rotated.foreign:
        what = f"{rotated.foreign} records are sealed with a key that is not given; if they are yours, add it to "
        sys.stderr.write(f"{what}HOLDFAST_STORAGE_KEY_PREVIOUS and run 'holdfast rotate' again; else remove them\n")
    if rotated.remaining:
        sys.stderr.write(f"{rotated.remaining} records are being changed all the time; run 'holdfast rotate' again\n")
    if rotated.foreign or rotated.remaining:
        return EXIT_STORE_FAILED
    sys.stderr.write("done: HOLDFAST_STORAGE_KEY_PREVIOUS is not needed any more, so take it away\n")
    return 0
