"""Draw every series of both servers over the minutes, as SVG."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt

from bench.plots import METADATA
from bench.soak.judging import JUDGED_FROM, UNITS

COLUMNS = 2


def draw(found: Mapping[str, Any], file: Path) -> None:
    """Draw what was found of each server, by its name; the time that is judged is white, restarts are grey lines."""
    rows = -(-len(UNITS) // COLUMNS)
    figure, grid = plt.subplots(rows, COLUMNS, figsize=(10, 2.2 * rows), sharex=True)
    for axes, (series, unit) in zip(grid.flat, UNITS.items(), strict=False):
        for number, (name, of) in enumerate(found.items()):
            points = of["series"].get(series, [])
            axes.plot(*zip(*points, strict=True), color=f"C{number}", linewidth=1, label=name)
            for minute in of["restarts"]:
                axes.axvline(minute, color="0.85", linewidth=0.5, zorder=0)
        axes.axvspan(0, JUDGED_FROM * points[-1][0], color="0.95", zorder=0)
        axes.set_ylim(bottom=0)
        axes.set_title(f"{series}, {unit}" if unit else series, fontsize="medium")
    for axes in grid[-1]:
        axes.set_xlabel("minutes")
    grid.flat[0].legend(fontsize="small", loc="lower right")
    figure.savefig(file, metadata=METADATA)
    plt.close(figure)
