"""How libraries are imported, which is most of what a start and a command cost."""

import gc
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

PROPAGATORS = "OTEL_PROPAGATORS"

NEW_OBJECTS_BEFORE_A_COLLECTION = 10_000
"""Python's own 700 would have hundreds of thousands of objects walked again and again that all stay."""


@contextmanager
def importing_libraries() -> Iterator[None]:
    """Import what is big inside the block, and no warnings come of it.

    What libraries deprecate is news for their developers, not for who reads this server's log. py-key-value would
    compile each of its modules at every start, with checks of types in all of its functions, which nothing here needs.
    OpenTelemetry's API fails where OTEL_PROPAGATORS names what is not installed, before anybody could say so.
    """
    gc.set_threshold(NEW_OBJECTS_BEFORE_A_COLLECTION)
    os.environ.setdefault("PY_KEY_VALUE_DISABLE_BEARTYPE", "true")
    propagators = os.environ.pop(PROPAGATORS, None)
    try:
        with warnings.catch_warnings(record=True):
            yield
    finally:
        if propagators is not None:
            os.environ[PROPAGATORS] = propagators
