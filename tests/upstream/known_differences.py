"""A pytest plugin for FastMCP's tests: those of known-differences.txt must fail, and all others must pass.

Those whose reason begins with a patch fail because of it, so with UNPATCHED set they must pass.
"""

import os
import re
import sysconfig
from pathlib import Path

import fastmcp
import pytest

LIST = Path(__file__).with_name("known-differences.txt")


def known_differences() -> dict[str, str]:
    """Return the reason for each test that is known to fail."""
    reasons = {}
    for line in LIST.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            test, separator, reason = line.partition("  # ")
            if not separator:
                raise pytest.UsageError(f"{LIST.name} has no reason for {test}")
            reasons[test] = reason
    return reasons


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    found = {item.nodeid: item for item in items}
    reasons = known_differences()
    if missing := reasons.keys() - found.keys():
        raise pytest.UsageError(f"{LIST.name} lists tests that do not exist: {', '.join(sorted(missing))}")
    for test, reason in reasons.items():
        if os.environ.get("UNPATCHED") and re.match(r"\S+\.patch:", reason):
            continue
        found[test].add_marker(pytest.mark.xfail(reason=reason, strict=True))


def pytest_sessionstart() -> None:
    if not Path(fastmcp.__file__).is_relative_to(sysconfig.get_path("purelib")):
        raise pytest.UsageError(f"the tests would run against {fastmcp.__file__}")
