#!/usr/bin/env python3
"""Gives each module that has no bytecode yet some that is never compared with its source.

Usage: compile_modules.py DIRECTORY [ROOT], where tracebacks are to name the files as they are below ROOT.
"""

import py_compile
import sys
from concurrent.futures import ProcessPoolExecutor
from importlib.util import cache_from_source
from pathlib import Path


def compile_modules(directory: Path, root: Path) -> None:
    sources = [path for path in sorted(directory.rglob("*.py")) if not Path(cache_from_source(path)).exists()]
    with ProcessPoolExecutor() as processes:
        list(processes.map(compile_module, sources, [root] * len(sources), chunksize=50))


def compile_module(source: Path, root: Path) -> None:
    py_compile.compile(
        str(source),
        dfile=str("/" / source.relative_to(root)),
        doraise=True,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


if __name__ == "__main__":
    compile_modules(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "/"))
