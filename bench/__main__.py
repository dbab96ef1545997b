"""Measure every row with a goal, or some, print what was found, and write results.md, the raw JSON and the plots."""

import argparse
import importlib
import sys
import time
from dataclasses import replace

from bench.report import print_results, write_results
from bench.result import Result, Scale

ROWS = ("tool_calls", "nfs", "sign_in", "store", "start", "workers", "records")
ON_REQUEST = ("worker_classes", "users")
"""What has no goal, and is measured where it is named."""

MANY_RECORDS = "many_records"
EVERY = (*ROWS, MANY_RECORDS, *ON_REQUEST)
"""All that is written down, in its order."""


def measure(row: str, scale: Scale) -> Result:
    began = time.monotonic()

    def progress(what: str) -> None:
        print(f"{time.monotonic() - began:4.0f} s  {row}: {what}", file=sys.stderr, flush=True)

    found: Result = importlib.import_module(f"bench.rows.{row}").measure(scale, progress)
    progress("done")
    return found


def main() -> None:
    known = (*ROWS, *ON_REQUEST)
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round; writes nothing")
    parser.add_argument("--only", metavar="ROW", nargs="+", choices=known, default=ROWS, help=f"of {', '.join(known)}")
    parser.add_argument("--records", type=int, help="in the largest tree")
    parser.add_argument("--rounds", type=int, help="instead of 7, or 1")
    parser.add_argument("--write", action="store_true", help="measure nothing; write the page and plots from raw JSON")
    options = parser.parse_args()
    if options.write:
        write_results({}, EVERY)
        return
    scale = Scale.quick() if options.quick else Scale()
    scale = replace(scale, rounds=options.rounds or scale.rounds, records=options.records or scale.records)
    results = {}
    for row in options.only:
        # What make bench found is kept beside what was found of another number of records.
        name = MANY_RECORDS if row == "records" and options.records else row
        results[name] = measure(row, scale)
        print_results({name: results[name]})
        if not options.quick:
            write_results(results, EVERY)


if __name__ == "__main__":
    main()
