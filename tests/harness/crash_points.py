"""Kill the process that imports this just before or just after a numbered operation of its store.

The file that CRASH_POINTS names says at which; see crashes.py. Works on py-key-value's own stores and on ours.
"""

import functools
import json
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")

CONTROL = Path(os.environ["CRASH_POINTS"])
METHODS = {"get": "_get_managed_entry", "put": "_put_managed_entry", "delete": "_delete_managed_entry", "add": "add"}
NOT_PART_OF_A_REQUEST = frozenset({"holdfast_probes", "holdfast"})


def numbered(operation: str, method: Callable[..., Awaitable[Result]]) -> Callable[..., Awaitable[Result]]:
    @functools.wraps(method)
    async def counted(*arguments: Any, **options: Any) -> Result:
        point = _begin(operation, str(options.get("collection")))
        _die_if(point == "before")
        result = await method(*arguments, **options)
        _die_if(point == "after")
        return result

    return counted


def _begin(operation: str, collection: str) -> str | None:
    """Write the operation down; tell whether the process is to die before or after it."""
    try:
        control = json.loads(CONTROL.read_text())
    except FileNotFoundError:
        return None
    if collection in NOT_PART_OF_A_REQUEST:
        return None
    done, what = Path(control["done"]), f"{operation} {collection}"
    with done.open("a") as file:
        file.write(f"{what}\n")
    is_it = what == control["operation"] and done.read_text().splitlines().count(what) == control["occurrence"]
    return str(control["when"]) if is_it else None


def _die_if(it_is_time: bool) -> None:
    if it_is_time:
        os.kill(os.getpid(), signal.SIGKILL)


def number_operations(*stores: type) -> None:
    for store in stores:
        for operation, name in METHODS.items():
            if hasattr(store, name):
                setattr(store, name, numbered(operation, getattr(store, name)))
