"""Draws charts as SVG in the colours of the page, so that one drawing fits light and dark.

matplotlib draws with placeholder colours, which are replaced by the page's CSS variables; text
stays text. Charts are small, so that a phone shows them without shrinking their letters.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl

mpl.use("svg")  # needs no screen

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, ScalarFormatter

# Placeholder colour → the page's variable. Series also differ in lightness, marker and line style,
# so that hue is not needed to tell them apart.
_COLOURS = {
    "#010101": "var(--ink)",
    "#020202": "var(--muted)",
    "#030303": "var(--rule)",
    "#040404": "var(--card)",
    "#0a0001": "var(--series-1)",
    "#0a0002": "var(--series-2)",
    "#0a0003": "var(--series-3)",
    "#0a0004": "var(--series-4)",
    "#0a0005": "var(--series-5)",
    "#0a0006": "var(--series-6)",
}
_INK, _MUTED, _RULE, _CARD, *_SERIES = _COLOURS
_MARKERS, _LINES = "osD^vP", ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "pttfaces",
    "text.parse_math": False,  # a name may hold a dollar
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _MUTED,
    "axes.edgecolor": _RULE,
    "axes.facecolor": "none",
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlecolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": _RULE,
    "grid.linewidth": 0.7,
    "xtick.color": _RULE,
    "ytick.color": _RULE,
    "xtick.labelcolor": _MUTED,
    "ytick.labelcolor": _MUTED,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
}


@dataclass(frozen=True)
class Series:
    """A named line through points; points whose y is None are left out."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]

    @property
    def points(self) -> tuple[list[float], list[float]]:
        known = [(x, y) for x, y in zip(self.x, self.y, strict=True) if y is not None]
        return [x for x, _ in known], [y for _, y in known]


@mpl.rc_context(_STYLE)
def lines(title: str, x_label: str, series: Sequence[Series], log_y: bool = False) -> str:
    """Lines over epochs, with a legend if there are several."""
    axes = _axes(title, x_label)
    for index, line in enumerate(series):
        marker = "." if len(line.points[0]) < 30 else None
        axes.plot(*line.points, label=line.name, marker=marker, **_look(index))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if log_y:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(ScalarFormatter())  # numbers instead of powers of ten
        axes.yaxis.set_minor_formatter(NullFormatter())
    return _svg(axes)


@mpl.rc_context(_STYLE)
def scores(title: str, x_label: str, series: Sequence[Series]) -> str:
    """Points joined by lines over a logarithmic axis of steps, each point with its value."""
    axes = _axes(title, x_label)
    note: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "fontsize": 8}
    for index, line in enumerate(series):
        marker = _MARKERS[index % len(_MARKERS)]
        axes.plot(*line.points, label=line.name, marker=marker, **_look(index))
        for x, y in zip(*line.points, strict=True):
            axes.annotate(f"{y:.3g}", (x, y), (0, 6), **note)
    ticks = sorted({x for line in series for x in line.points[0]})
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.12)
    axes.set_ylim(0, 1.2 * max(y for line in series for y in line.points[1]))
    return _svg(axes)


@mpl.rc_context(_STYLE)
def histogram(
    title: str, x_label: str, edges: Sequence[float], counts: Sequence[float], bound: float | None
) -> str:
    """Bars over a logarithmic axis, and a line at the bound below which crops are left out.

    edges: the lower ones, three at least. A logarithmic axis has no zero: a bin that starts there
    is drawn as wide as the next one.
    """
    axes = _axes(title, x_label)
    lowest, second, third = edges[:3]
    shown = [lowest or second**2 / third, *edges[1:]]
    widths = [b - a for a, b in zip(shown, [*shown[1:], shown[-1] * 1.2], strict=True)]
    axes.bar(shown, counts, widths, align="edge", color=_SERIES[0], edgecolor=_CARD)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    if bound:
        axes.axvline(bound, color=_SERIES[1], linestyle="--")
        note: dict[str, Any] = {
            "textcoords": "offset points",
            "color": _INK,
            "fontsize": 9,
            "va": "top",
        }
        axes.annotate(f"threshold {bound:g}", (bound, axes.get_ylim()[1]), (4, -2), **note)
    return _svg(axes)


def _axes(title: str, x_label: str) -> Axes:
    """Those of a new figure of a phone's width."""
    _, axes = plt.subplots(figsize=(4.6, 3.0), layout="constrained")
    axes.set_title(title)
    axes.set_xlabel(x_label)
    axes.set_axisbelow(True)
    return axes


def _svg(axes: Axes) -> str:
    """The figure as SVG in the page's colours and font, with a legend if it has several lines."""
    if len(axes.get_legend_handles_labels()[0]) > 1:
        axes.legend()
    # matplotlib's own would put web addresses into the page.
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    plt.savefig(buffer := io.StringIO(), format="svg", metadata=metadata)
    plt.close()
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    for placeholder, variable in _COLOURS.items():
        svg = svg.replace(placeholder, variable)
    svg = re.sub(r"font: (?:bold |700 )?([\d.]+px) [^;\"]*", _page_font, svg)
    return re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)


def _page_font(match: "re.Match[str]") -> str:
    weight = "600 " if re.match(r"font: (bold|700)", match[0]) else ""
    return f"font: {weight}{match[1]} var(--font)"


def _look(index: int) -> dict[str, Any]:
    return {"color": _SERIES[index % len(_SERIES)], "linestyle": _LINES[index % len(_LINES)]}
