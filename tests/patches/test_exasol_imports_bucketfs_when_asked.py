"""What few of exasol's tools need is imported by these, and not by every start."""

import json
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import json, sys
from exasol.ai.mcp.server.main import _install_skills_async
from exasol.ai.mcp.server.connection.connection_factory import get_bucketfs_location
from exasol.ai.mcp.server.setup.server_settings import McpServerSettings
from exasol.ai.mcp.server.tools.bucketfs_tools import BucketFsTools

spared = ("exasol.bucketfs", "exasol.saas", "aiofile", "fastmcp.client", "requests")
imported = [name for name in spared if name in sys.modules]

import asyncio
from pathlib import Path
directory = Path(sys.argv[1])
skills = asyncio.run(_install_skills_async(directory / "skills", None))

import exasol.bucketfs as bfs
(directory / "bucket" / "notes").mkdir(parents=True)
(directory / "bucket" / "notes" / "one.txt").write_text("1")
location = bfs.path.build_path(backend="mounted", bucket_name="bucket", base_path=str(directory / "bucket"))
listed = BucketFsTools(location, McpServerSettings()).list_directories("")

settings = {"URL": "http://127.0.0.1:1", "BUCKET": "bucket", "USER": "w", "PASSWORD": "p", "SERVICE": "s"}
try:
    get_bucketfs_location({f"EXA_BUCKETFS_{name}": value for name, value in settings.items()})
except Exception as error:
    refused = type(error).__name__
print(json.dumps([imported, len(skills) > 0, len(listed), refused]))
"""


def test_bucketfs_and_its_libraries_are_imported_by_what_uses_them(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], check=True, capture_output=True, text=True)
    imported, skills_were_installed, directories, refused = json.loads(done.stdout.splitlines()[-1])

    assert imported == []
    assert (skills_were_installed, directories) == (True, 1)
    assert refused == "ConnectionError"
