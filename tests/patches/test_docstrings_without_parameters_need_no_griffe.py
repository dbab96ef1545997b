"""griffe is imported for the docstrings that can describe parameters, and reads these as before."""

import json
import subprocess
import sys

PROGRAM = """
import json, sys
from fastmcp.tools.function_tool import FunctionTool

def plain(a: int):
    "Double a number."

plain_tool = FunctionTool.from_function(plain)
before = "griffe" in sys.modules
styles = {
    "google": "Double it.\\n\\nArgs:\\n    a: what to double",
    "numpy": "Double it.\\n\\nParameters\\n----------\\na\\n    what to double",
    "sphinx": "Double it.\\n\\n:param a: what to double",
    "keyword": "Double it.\\n\\n:key a: what to double",
}
found = {}
for style, docstring in styles.items():
    def described(a: int): ...
    described.__doc__ = docstring
    tool = FunctionTool.from_function(described)
    found[style] = [tool.description, tool.parameters["properties"]["a"].get("description")]
print(json.dumps([plain_tool.description, before, found]))
"""


def test_a_docstring_without_parameters_is_a_description_without_griffe() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)
    description, griffe_was_imported, described = json.loads(done.stdout)

    assert (description, griffe_was_imported) == ("Double a number.", False)
    assert described == {style: ["Double it.", "what to double"] for style in described}
    assert len(described) == 4
