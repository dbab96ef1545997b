"""exasol's tools find the names that they found with numpy and rank_bm25, in the same order, without these."""

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import exasol  # type: ignore[import-untyped]

from patches.series import PATCHES, SITE_PACKAGES, read_patch, run_patch

MODULE = Path("exasol/ai/mcp/server/utils/keyword_search.py")
PATCH = read_patch(PATCHES / "exasol-ranks-without-numpy.patch")
NOT_INSTALLED = ("numpy", "rank_bm25")

PROGRAM = """
import json, runpy, sys
path, *not_installed = sys.argv[1:]
sys.modules.update(dict.fromkeys(not_installed))
keyword_filter = runpy.run_path(path)["keyword_filter"]
print(json.dumps([keyword_filter(rows, keywords) for rows, keywords in json.load(sys.stdin)]))
"""

Search = tuple[list[dict[str, Any]], list[str]]
"""The rows of a table, and what is looked for in them."""


def found(searches: list[Search], module: Path, *not_installed: str) -> Any:
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(module), *not_installed]
    told = subprocess.run(command, input=json.dumps(searches), check=True, capture_output=True, text=True).stdout
    return json.loads(told)


def made_up(generator: random.Random) -> Search:
    words = [f"word{letter}" for letter in "abcdefghijkl"][: generator.randint(1, 12)]
    rows = [
        {"name": "_".join(generator.choices(words, k=generator.randint(0, 6))), "columns": 5}
        for _ in range(generator.randint(0, 60))
    ]
    return rows, generator.choices([*words, "unknown"], k=generator.randint(0, 5))


def test_the_names_found_and_their_order_are_the_same(tmp_path: Path) -> None:
    upstreams = tmp_path / MODULE
    upstreams.parent.mkdir(parents=True)
    shutil.copy(SITE_PACKAGES / MODULE, upstreams)
    run_patch(tmp_path, PATCH, "--reverse")
    installed = Path(exasol.__path__[0]).parent / MODULE
    generator = random.Random(20261122)
    searches = [made_up(generator) for _ in range(500)]
    assert found(searches, installed, *NOT_INSTALLED) == found(searches, upstreams)
