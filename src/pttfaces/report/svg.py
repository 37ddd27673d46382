"""Draws charts as SVG in the colours of the page, so that one drawing fits light and dark.

matplotlib draws with placeholder colours, which are replaced by the page's CSS variables; text
stays text. Charts are small, so that a phone shows them without shrinking their letters.
"""

import io
import re
from collections.abc import Sequence
from contextlib import contextmanager
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


def lines(title: str, x_label: str, series: Sequence[Series], log_y: bool = False) -> str:
    """Lines over epochs, with a legend if there are several."""
    with _figure(title, x_label) as drawing:
        for index, line in enumerate(series):
            few = len(line.points[0]) < 30
            marker = "." if few else None
            drawing.axes.plot(*line.points, label=line.name, marker=marker, **_look(index))
        drawing.axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if log_y:
            drawing.axes.set_yscale("log")
            _plain(drawing.axes.yaxis)
        _legend(drawing.axes, series)
    return drawing.svg


def scores(title: str, x_label: str, series: Sequence[Series]) -> str:
    """Points joined by lines over a logarithmic axis of steps, each point with its value."""
    with _figure(title, x_label) as drawing:
        ticks = sorted({x for line in series for x in line.points[0]})
        for index, line in enumerate(series):
            marker = _MARKERS[index % len(_MARKERS)]
            drawing.axes.plot(*line.points, label=line.name, marker=marker, **_look(index))
            for x, y in zip(*line.points, strict=True):
                drawing.axes.annotate(
                    f"{y:.3g}", (x, y), (0, 6), textcoords="offset points", ha="center", fontsize=8
                )
        drawing.axes.set_xscale("log")
        drawing.axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        drawing.axes.xaxis.set_minor_formatter(NullFormatter())
        drawing.axes.margins(x=0.12)
        drawing.axes.set_ylim(0, 1.2 * max(y for line in series for y in line.points[1]))
        _legend(drawing.axes, series)
    return drawing.svg


def histogram(
    title: str, x_label: str, edges: Sequence[float], counts: Sequence[float], bound: float | None
) -> str:
    """Bars over a logarithmic axis, and a line at the bound below which crops are left out.

    edges: the lower ones, three at least. A logarithmic axis has no zero: a bin that starts there
    is drawn as wide as the next one.
    """
    with _figure(title, x_label) as drawing:
        lowest, second, third = edges[:3]
        shown = [lowest or second**2 / third, *edges[1:]]
        widths = [b - a for a, b in zip(shown, [*shown[1:], shown[-1] * 1.2], strict=True)]
        drawing.axes.bar(shown, counts, widths, align="edge", color=_SERIES[0], edgecolor=_CARD)
        drawing.axes.set_xscale("log")
        drawing.axes.xaxis.set_major_formatter(ScalarFormatter())
        if bound:
            drawing.axes.axvline(bound, color=_SERIES[1], linestyle="--")
            note = {"textcoords": "offset points", "color": _INK, "fontsize": 9, "va": "top"}
            top = drawing.axes.get_ylim()[1]
            drawing.axes.annotate(f"threshold {bound:g}", (bound, top), (4, -2), **note)
    return drawing.svg


class _Drawing:
    axes: Axes
    svg: str = ""


@contextmanager
def _figure(title: str, x_label: str) -> Any:
    """A figure of a phone's width with one pair of axes; `svg` holds it after the block."""
    drawing = _Drawing()
    with mpl.rc_context(_STYLE):
        figure, drawing.axes = plt.subplots(figsize=(4.6, 3.0), layout="constrained")
        drawing.axes.set_title(title)
        drawing.axes.set_xlabel(x_label)
        drawing.axes.set_axisbelow(True)
        yield drawing
        buffer = io.StringIO()
        # matplotlib's own would put web addresses into the page.
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=metadata)
        plt.close(figure)
    drawing.svg = _themed(buffer.getvalue())


def _themed(svg: str) -> str:
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


def _plain(axis: Any) -> None:
    """Numbers instead of powers of ten along a logarithmic axis."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(ScalarFormatter())
    axis.set_minor_formatter(NullFormatter())


def _legend(axes: Axes, series: Sequence[Series]) -> None:
    if len(series) > 1:
        axes.legend()
