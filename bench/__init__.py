"""Holdfast measured beside the stock stack, in turn on one machine. Run it by `make bench`.

Each module of `rows` measures something for itself; `programs` are what runs in processes of their own.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
PROGRAMS = HERE / "programs"

# What the tests start and sign in with.
sys.path.insert(0, str(HERE.parent / "tests"))
