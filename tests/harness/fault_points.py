"""Let the stores of the process that imports this obey the file that STORE_FAULTS names; see faults.py.

Works on py-key-value's own stores and on ours.
"""

import functools
import json
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from anyio import to_thread

Result = TypeVar("Result")

CONTROL = Path(os.environ["STORE_FAULTS"])
METHODS = {"get": "_get_managed_entry", "put": "_put_managed_entry", "delete": "_delete_managed_entry", "add": "add"}


def fault_of(operation: str) -> dict[str, Any]:
    """What is to happen to an operation; nothing where the dictionary is empty."""
    try:
        fault: dict[str, Any] = json.loads(CONTROL.read_text())
    except FileNotFoundError:
        return {}
    return fault if operation in fault["operations"] else {}


def suffer(operation: str) -> None:
    """Wait or fail as the control file says."""
    while fault_of(operation).get("hang"):
        time.sleep(0.05)
    fault = fault_of(operation)
    time.sleep(fault.get("seconds", 0))
    if "errno" in fault:
        raise OSError(fault["errno"], os.strerror(fault["errno"]), "/data/a/file")


def with_faults(operation: str, method: Callable[..., Awaitable[Result]]) -> Callable[..., Awaitable[Result]]:
    @functools.wraps(method)
    async def faulty(*arguments: Any, **options: Any) -> Result:
        if fault_of(operation):
            # In a thread, where nothing can cancel it.
            await to_thread.run_sync(suffer, operation)
        return await method(*arguments, **options)

    return faulty


def obey(*stores: type) -> None:
    for store in stores:
        for operation, name in METHODS.items():
            if hasattr(store, name):
                setattr(store, name, with_faults(operation, getattr(store, name)))
