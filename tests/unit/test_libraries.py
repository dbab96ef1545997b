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


COLLECTIONS = """
import gc

generations = []
gc.callbacks.append(lambda phase, collection: generations.append(collection["generation"]))
import mcp_holdfast.libraries

generations.clear()
import mcp_holdfast.serve

imported = gc.get_freeze_count()
print(generations, imported > 100_000, len(gc.get_objects()) < imported / 100)
"""


def test_models_of_libraries_are_built_when_they_are_used_and_a_payloads_at_once() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["False add True", "True True"]


def test_nothing_that_a_start_imports_is_searched_for_garbage() -> None:
    done = subprocess.run([sys.executable, "-c", COLLECTIONS], check=True, capture_output=True, text=True)
    assert done.stdout == "[] True True\n"
