"""What importing libraries leaves to their first use, and what it leaves as it was."""

import subprocess
import sys

PROGRAM = """
import gc
from mcp_holdfast.libraries import importing_libraries

with importing_libraries():
    from mcp.types import Tool
    with importing_libraries():
        import mcp.server

from pydantic import BaseModel

class OfAPayload(BaseModel):
    a: int

print(Tool.__pydantic_complete__, Tool(name="add", inputSchema={}).name, Tool.__pydantic_complete__)
print(OfAPayload.__pydantic_complete__, gc.isenabled())
"""


def test_models_of_libraries_are_built_when_they_are_used_and_a_payloads_at_once() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["False add True", "True True"]
