"""numpy is loaded when exasol's tools first rank names by keywords, and not before."""

import subprocess
import sys

PROGRAM = """
import sys
from exasol.ai.mcp.server.utils.keyword_search import keyword_filter

print("numpy" in sys.modules)
rows = [{"name": name} for name in ("customers", "orders", "invoices of customers", "a", "b", "c")]
print([row["name"] for row in keyword_filter(rows, ["orders"])])
"""


def test_numpy_is_loaded_by_the_first_search() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["False", "['orders']"]
