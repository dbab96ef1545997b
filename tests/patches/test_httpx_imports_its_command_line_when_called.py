"""httpx as a library imports no command line; the command works as before."""

import subprocess
import sys

LIBRARY = "import sys, httpx; print('httpx._main' in sys.modules)"
COMMAND = "import sys, httpx; sys.argv = ['httpx', '--help']; httpx.main()"


def test_the_command_line_is_imported_when_it_is_called() -> None:
    library, command = (
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
        for program in (LIBRARY, COMMAND)
    )
    assert library.strip() == "False"
    assert "HTTPX" in command
