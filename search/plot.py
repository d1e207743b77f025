"""Plots of what was measured: recall@k of models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from search.errors import TwinlensError
from search.evaluate import Evaluation, Quality
from search.ranking import KS

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot(path: Path, evaluations: Sequence[Evaluation]) -> None:
    """Draw recall@k over k, both ways, with the intervals as bands; PNG, SVG or PDF by its ending.

    Raises:
        TwinlensError: matplotlib is not installed, or the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise TwinlensError("a plot needs matplotlib: pip install 'twinlens[plot]'") from error

    figure = Figure(figsize=(10, 4.8), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    for side, axes in enumerate((left, right)):
        _draw(axes, [evaluation.directions[side] for evaluation in evaluations],
              [evaluation.model for evaluation in evaluations])  # fmt: skip
    left.set_ylabel("recall@k in per cent")
    if len(evaluations) > 1:
        left.legend(loc="lower right", frameon=False)
    shown = evaluations[0]
    about = f"{shown.images:,} pictures, {shown.texts:,} captions; bands: 95 % intervals"
    title = about if len(evaluations) > 1 else f"{shown.model}: {about}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise TwinlensError(f"{path} cannot be written: {error}") from error


def _draw(axes: Axes, sides: Sequence[Quality], names: Sequence[str]) -> None:
    colours = ("#b4541a", "#2b6ca3", "#3d8b57", "#8a4f9e", "#7a6a3a", "#444444")
    for number, (side, name) in enumerate(zip(sides, names, strict=True)):
        ks = [k for k in KS if k == 1 or k <= side.gallery]
        found = [side.recall[k] for k in ks]
        colour = colours[number % len(colours)]
        values = [100 * estimate.value for estimate in found]
        axes.fill_between(
            ks,
            [100 * estimate.low for estimate in found],
            [100 * estimate.high for estimate in found],
            color=colour,
            alpha=0.18,
            linewidth=0,
        )
        axes.plot(ks, values, color=colour, marker="o", markersize=4, linewidth=1.8, label=name)
        if len(sides) == 1:
            for k, value in zip(ks, values, strict=True):
                if k in (1, 5, 10):
                    axes.annotate(
                        f"{value:.1f}",
                        (k, value),
                        xytext=(6, -13),
                        textcoords="offset points",
                        color=colour,
                    )
    axes.set_xscale("log")
    axes.set_xticks(KS, [str(k) for k in KS])
    axes.minorticks_off()
    axes.set_xlim(0.9, 110)
    axes.set_ylim(0, 102)
    axes.set_xlabel("k")
    axes.set_title(f"{sides[0].direction}, {sides[0].queries:,} queries", loc="left", fontsize=10)
    axes.grid(color="#e4e1db", linewidth=0.7)
    axes.set_axisbelow(True)
    for edge in ("top", "right"):
        axes.spines[edge].set_visible(False)
