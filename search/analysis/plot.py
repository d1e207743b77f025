"""Plot measurements: recall@k of models, and recall and time of index types."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from twinlens.search.analysis.evaluate import ANN_K, Evaluation, Quality
from twinlens.search.analysis.index_trials import IndexTrial
from twinlens.search.analysis.metrics import KS
from twinlens.search.errors import TwinlensError, UsageError
from twinlens.search.paths import expand_home

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ENDINGS = (".png", ".svg", ".pdf")
_COLOURS = ("#b4541a", "#2b6ca3", "#3d8b57", "#8a4f9e", "#7a6a3a", "#444444")


def check_plot(path: Path) -> None:
    """Check that a plot can be drawn to a file, before hours of measuring.

    Raises:
        UsageError: a suffix other than .png, .svg or .pdf, or a folder that does not exist.
        TwinlensError: matplotlib is not installed.
    """
    if path.suffix.lower() not in ENDINGS:
        raise UsageError(f"{path} is not a plot: its name must end in {', '.join(ENDINGS)}")
    if not expand_home(path).absolute().parent.is_dir():
        raise UsageError(f"the folder {path.parent} does not exist")
    if importlib.util.find_spec("matplotlib") is None:
        raise TwinlensError("plots need matplotlib: pip install 'twinlens[plot]'")


def plot_recall(path: Path, evaluations: Sequence[Evaluation]) -> None:
    """Plot recall@k over k, in both directions, with the confidence intervals as bands.

    Raises:
        UsageError, TwinlensError: see ``check_plot``; or the file cannot be written.
    """
    figure = _figure(path, 10, 4.8)
    left, right = figure.subplots(1, 2, sharey=True)
    for side, axes in enumerate((left, right)):
        _draw(axes, [evaluation.directions[side] for evaluation in evaluations],
              [_literal(evaluation.model) for evaluation in evaluations])  # fmt: skip
    left.set_ylabel("recall@k in per cent")
    if len(evaluations) > 1:
        left.legend(loc="lower right", frameon=False)
    shown = evaluations[0]
    summary = f"{shown.images:,} pictures, {shown.texts:,} captions; bands: 95 % intervals"
    title = summary if len(evaluations) > 1 else f"{_literal(shown.model)}: {summary}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    _save(figure, path)


def plot_trials(path: Path, trials: Sequence[IndexTrial]) -> None:
    """Plot the recall of index types over the time of a query; the area is bytes per vector.

    Raises:
        UsageError, TwinlensError: see ``check_plot``; or the file cannot be written.
    """
    figure = _figure(path, 7, 4.8)
    axes = figure.subplots()
    largest = max(one.bytes_per_vector for one in trials)
    for number, one in enumerate(trials):
        axes.scatter(
            one.milliseconds,
            one.ann_recall,
            s=900 * one.bytes_per_vector / largest,
            color=_COLOURS[number % len(_COLOURS)],
            alpha=0.5,
            linewidth=0,
        )
        axes.annotate(
            f"{one.index_type}, {one.bytes_per_vector:,} bytes",
            (one.milliseconds, one.ann_recall),
            xytext=(0, 18 if number % 2 else -24),
            textcoords="offset points",
            ha="center",
        )
    axes.margins(0.3)
    axes.set_xlim(left=0)
    axes.set_xlabel("milliseconds of a single query, median")
    axes.set_ylabel(f"share of the exact {ANN_K} nearest")
    _style(axes)
    figure.suptitle("indexes: the area is the bytes per vector", x=0.01, ha="left", fontsize=11)
    _save(figure, path)


def _literal(name: str) -> str:
    """A name that matplotlib shows as it is: it typesets what is between dollar signs."""
    return name.replace("$", r"\$")


def _figure(path: Path, width: float, height: float) -> Figure:
    check_plot(path)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> None:
    try:
        figure.savefig(expand_home(path))
    except (OSError, ValueError) as error:
        raise TwinlensError(f"{path} cannot be written: {error}") from error


def _style(axes: Axes) -> None:
    axes.grid(color="#e4e1db", linewidth=0.7)
    axes.set_axisbelow(True)
    for edge in ("top", "right"):
        axes.spines[edge].set_visible(False)


def _draw(axes: Axes, sides: Sequence[Quality], names: Sequence[str]) -> None:
    for number, (side, name) in enumerate(zip(sides, names, strict=True)):
        ks = [k for k in KS if k == 1 or k <= side.gallery]
        found = [side.recall[k] for k in ks]
        colour = _COLOURS[number % len(_COLOURS)]
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
    _style(axes)
