"""Soak both servers, print whether anything grows, and write the samples and their plot; exit status 1 if it does."""

import argparse
import json
import sys
import time
from pathlib import Path

from bench.report import RAW, hardware
from bench.result import markdown
from bench.soak.drawing import draw
from bench.soak.judging import verdicts
from bench.soak.servers import in_containers
from bench.soak.watching import watch

SAMPLES = 180
RESTARTS_A_MINUTE = 2 / 3
HEAD = ("what", "goal", "found", "verdict")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--directory", type=Path, default=RAW, help="where soak.json and soak.svg are written")
    options = parser.parse_args()
    seconds = 60 * options.minutes
    began = time.monotonic()

    def progress(what: str) -> None:
        print(f"{(time.monotonic() - began) / 60:5.1f} min  {what}", file=sys.stderr, flush=True)

    with in_containers() as servers:
        watched = watch(
            servers,
            seconds=seconds,
            restarts=round(RESTARTS_A_MINUTE * options.minutes),
            every=seconds / SAMPLES,
            progress=progress,
        )
    found = {one.soaked.name: one.as_json() for one in watched}
    judged = [verdict for name, of in found.items() for verdict in verdicts(name, of)]
    written = {"minutes": options.minutes, "machine": hardware(), "servers": found}
    (options.directory / "soak.json").write_text(json.dumps(written, separators=(",", ":")) + "\n", encoding="utf-8")
    draw(found, options.directory / "soak.svg")
    print(markdown([HEAD, *(verdict.cells() for verdict in judged)]))
    for name, of in found.items():
        print(f"\n{name}: {of['answers']}, {of['later']} later", *of["wrong"][:20], sep="\n")
    sys.exit(0 if all(verdict.is_met for verdict in judged) else 1)


if __name__ == "__main__":
    main()
