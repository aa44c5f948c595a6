"""The charts: each returns a :class:`Picture` from plain numbers, fractions where it says share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tbft.report.drawing import FONT_SIZE, Picture, picture
from tbft.report.theme import MARKS, Theme, label
from tbft.report.words import listed, percent, points, seconds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW = 34  # px of a row of bars, two bars and a gap


@dataclass(frozen=True)
class Bar:
    """One arm's accuracies; each a share and its half-width."""

    method: str
    ours: tuple[float, float | None] | None
    published: tuple[float, float | None] | None = None


def bars(title: str, given: Sequence[Bar], best: str | None = None, limit: float = 1.0) -> Picture:
    """Accuracy of each arm, ours filled and the published one outlined above it.

    Args:
        best: of our arms, marked with a triangle.
        limit: end of the axis, so that charts side by side have the same.
    """

    def draw(axes: Axes, theme: Theme) -> None:
        for place, bar in enumerate(given):
            colour = theme.arm(bar.method)
            both = bar.ours is not None and bar.published is not None
            for value, up, style in (
                (bar.published, -0.19, {"facecolor": "none", "edgecolor": colour, "linewidth": 1.2}),
                (bar.ours, 0.19, {"facecolor": colour, "edgecolor": colour, "linewidth": 1.2}),
            ):
                if value is None:
                    continue
                at = place + (up if both else 0)
                axes.barh(at, value[0], height=0.32, **style)
                _whisker(axes, theme, value, at)
                mark = "  ◂ best" if bar.method == best and value is bar.ours else ""
                end = value[0] + (value[1] or 0) + 0.012 * limit
                axes.text(
                    end,
                    at,
                    f"{100 * value[0]:.1f}{mark}",
                    va="center",
                    color=theme.ink if value is bar.ours else theme.muted,
                    weight="bold" if mark else "normal",
                    size=FONT_SIZE - 0.4,
                )
        axes.set_yticks(range(len(given)), [label(bar.method) for bar in given], color=theme.ink)
        axes.set_ylim(len(given) - 0.45, -0.55)
        _percent_axis(axes, "x", limit * 1.2, limit)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)

    said = listed([_said(bar) for bar in given])
    return picture(draw, title, f"Accuracy: {said}.", 56 + ROW * len(given))


def _said(bar: Bar) -> str:
    ours = "no record" if bar.ours is None else percent(bar.ours[0])
    paper = "" if bar.published is None else f" (published {percent(bar.published[0])})"
    return f"{label(bar.method)} {ours}{paper}"


def _whisker(axes: Axes, theme: Theme, value: tuple[float, float | None], at: float) -> None:
    if value[1]:
        axes.errorbar(value[0], at, xerr=value[1], color=theme.ink, elinewidth=0.9, capsize=1.8, capthick=0.9)


@dataclass(frozen=True)
class Point:
    """What an arm reached and took."""

    method: str
    cpu_seconds: float
    accuracy: float
    filled: bool = True  # the recipe fast; the paper's is hollow


def costs(title: str, given: Sequence[Point], taken: str | None = None, height: int = 300) -> Picture:
    """Accuracy against processor time, on a logarithmic axis; up and to the left is better.

    Args:
        taken: the method that was chosen, circled.
    """

    def draw(axes: Axes, theme: Theme) -> None:
        from matplotlib.ticker import FuncFormatter, NullFormatter

        least = min((p.cpu_seconds for p in given if p.cpu_seconds > 0), default=1.0)
        floor = least / 3  # where those stand that cost nothing
        places = [(max(p.cpu_seconds, floor), p.accuracy) for p in given]
        for point, (x, y) in zip(given, places, strict=True):
            colour = theme.arm(point.method)
            mark = MARKS.get(point.method, "o")
            face = colour if point.filled or mark in "x+" else theme.paper
            size = 90 if mark == "*" else 40
            axes.scatter(
                x, y, s=size, marker=mark, facecolors=face, edgecolors=None if mark in "x+" else colour,
                color=colour if mark in "x+" else None, linewidths=1.4, zorder=3,
            )  # fmt: skip
            if point.method == taken:
                axes.scatter(x, y, s=190, facecolors="none", edgecolors=theme.ink, linewidths=1, zorder=4)
        axes.set_xscale("log")
        axes.set_xlim(floor / 1.6, max(x for x, _ in places) * 3.2)
        low, high = min(y for _, y in places), max(y for _, y in places)
        room = max(0.03, 0.12 * (high - low))
        axes.set_ylim(max(0.0, low - room), min(1.02, high + room))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:.0f}"))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _plain(x)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.minorticks_off()
        axes.set_xlabel("processor seconds, logarithmic")
        axes.set_ylabel("accuracy, %")
        _name_points(axes, theme, [label(p.method) for p in given], places)

    said = listed([f"{label(p.method)} {percent(p.accuracy)} for {seconds(p.cpu_seconds)}" for p in given])
    return picture(draw, title, f"Accuracy against processor time: {said}.", height)


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _name_points(
    axes: Axes, theme: Theme, names: Sequence[str], places: Sequence[tuple[float, float]]
) -> None:
    """Names beside their points, each where it covers least of the other names and points."""
    axes.figure.draw_without_rendering()  # fixes the layout, so that places in pixels are known
    shown = [tuple(axes.transData.transform(place)) for place in places]
    frame = axes.get_window_extent()
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in shown]
    scale = axes.figure.dpi / 72
    for name, (x, y), place in zip(names, shown, places, strict=True):
        wide, high = 0.56 * FONT_SIZE * scale * len(name), 1.1 * FONT_SIZE * scale
        choices = [
            (x + dx if side == "left" else x - dx - wide, y + dy - high / 2, side, dx, dy)
            for dy in (0, 9, -9, 17, -17, 25, -25)
            for side, dx in (("left", 8), ("right", 8))
        ]

        def badness(
            choice: tuple[float, float, str, float, float], wide: float = wide, high: float = high
        ) -> float:
            left, low = choice[0], choice[1]
            box = (left, low, left + wide, low + high)
            outside = max(0, frame.x0 - left) + max(0, left + wide - frame.x1 - 6)
            return sum(_overlap(box, other) for other in taken) + 40 * outside + 2 * abs(choice[4])

        left, low, side, dx, dy = min(choices, key=badness)
        taken.append((left, low, left + wide, low + high))
        axes.annotate(
            name,
            place,
            xytext=((dx if side == "left" else -dx) / scale, dy / scale),
            textcoords="offset points",
            ha=side,
            va="center",
            color=theme.ink,
            size=FONT_SIZE - 0.4,
        )


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def heat(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Mapping[tuple[str, str], float],
    best_in: str = "row",
    row_name: str = "",
    column_name: str = "",
) -> Picture:
    """Shares as a grid of colours and numbers; the best of each row, or column, has a frame and bold type.

    Args:
        values: (row, column) -> share; missing ones stay blank.
    """
    low = min(values.values(), default=0.0)
    high = max(values.values(), default=1.0)

    def draw(axes: Axes, theme: Theme) -> None:
        from matplotlib.colors import LinearSegmentedColormap
        from matplotlib.patches import Rectangle

        colours = LinearSegmentedColormap.from_list("tbft", [theme.fill, theme.peak])
        for (row, column), value in values.items():
            x, y = columns.index(column), rows.index(row)
            depth = (value - low) / ((high - low) or 1)
            best = value == _best(values, row if best_in == "row" else column, best_in)
            axes.add_patch(
                Rectangle((x, y), 1, 1, facecolor=colours(depth), edgecolor=theme.paper, linewidth=1.5)
            )
            if best:
                axes.add_patch(
                    Rectangle(
                        (x + 0.06, y + 0.08),
                        0.88,
                        0.84,
                        fill=False,
                        edgecolor=theme.arm("ours"),
                        lw=1.6,
                        zorder=3,
                    )
                )
            axes.text(
                x + 0.5,
                y + 0.5,
                f"{100 * value:.0f}",
                ha="center",
                va="center",
                color=theme.paper if depth > 0.5 else theme.ink,
                weight="bold" if best else "normal",
            )
        axes.set_xlim(0, len(columns))
        axes.set_ylim(len(rows), 0)
        places = [i + 0.5 for i in range(len(columns))]
        axes.set_xticks(
            places,
            [label(c) for c in columns],
            rotation=40,
            ha="left",
            color=theme.ink,
            rotation_mode="anchor",
        )
        axes.set_yticks([i + 0.5 for i in range(len(rows))], [label(r) for r in rows], color=theme.ink)
        axes.xaxis.tick_top()
        axes.xaxis.set_label_position("top")
        axes.set_xlabel(column_name)
        axes.set_ylabel(row_name)
        axes.tick_params(length=0)
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set_visible(False)

    leaders = []
    for name in rows if best_in == "row" else columns:
        inside = {
            (c if best_in == "row" else r): v
            for (r, c), v in values.items()
            if name in (r, c) and name == (r if best_in == "row" else c)
        }
        if inside:
            leader = max(inside, key=lambda key: inside[key])
            leaders.append(f"{label(name)}: {label(leader)} {percent(inside[leader])}")
    return picture(draw, title, f"Best in each {best_in}: {'; '.join(leaders)}.", 118 + 23 * len(rows))


def _best(values: Mapping[tuple[str, str], float], name: str, best_in: str) -> float:
    at = 0 if best_in == "row" else 1
    return max(value for key, value in values.items() if key[at] == name)


def _percent_axis(axes: Axes, which: str, end: float, last: float) -> None:
    """An axis of shares from 0, labelled in per cent."""
    step = next(s for s in (0.05, 0.1, 0.2, 0.25) if last / s <= 5 or s == 0.25)
    ticks = [i * step for i in range(int(last / step + 1e-9) + 1)]
    names = [f"{100 * tick:.0f}" for tick in ticks]
    if which == "x":
        axes.set_xlim(0, end)
        axes.set_xticks(ticks, names)
        axes.set_xlabel("accuracy, %")
    else:
        axes.set_ylim(0, end)
        axes.set_yticks(ticks, names)
        axes.set_ylabel("accuracy, %")


def learning(
    title: str, curves: Mapping[str, Sequence[float | None]], best_epoch: int | None, ylabel: str
) -> Picture:
    """Values after every epoch, a line each; the epoch that was kept is marked.

    Args:
        curves: name -> a value for epochs 1, 2, ...; None where there is none.
    """
    styles = (("front", "-", "o"), ("ours", "--", "s"), ("layer3", ":", "D"))

    def draw(axes: Axes, theme: Theme) -> None:
        for (name, values), (arm, line, mark) in zip(curves.items(), styles, strict=False):
            known = [(i + 1, v) for i, v in enumerate(values) if v is not None]
            axes.plot(
                *zip(*known, strict=True), line, marker=mark, markersize=4, color=theme.arm(arm), label=name
            )
            axes.annotate(
                f"{known[-1][1]:.2f}",
                known[-1],
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                size=FONT_SIZE - 0.4,
            )
        epochs = max(len(values) for values in curves.values())
        if best_epoch is not None:
            axes.axvline(best_epoch, color=theme.muted, linewidth=0.9, linestyle=(0, (2, 2)))
            axes.annotate(
                "kept",
                (best_epoch, 1),
                xycoords=("data", "axes fraction"),
                xytext=(-4, -2),
                textcoords="offset points",
                ha="right",
                va="top",
                color=theme.muted,
            )
        axes.set_xlim(0.8, epochs + 0.35 + 0.05 * epochs)
        axes.set_ylim(bottom=0)
        step = max(1, -(-epochs // 8))
        axes.set_xticks(range(1, epochs + 1, step))
        axes.set_xlabel("epoch")
        axes.set_ylabel(ylabel)
        if len(curves) > 1:
            axes.legend()

    ends = listed([f"{name} from {_first(v):.3g} to {_first(v[::-1]):.3g}" for name, v in curves.items()])
    kept = "" if best_epoch is None else f" Epoch {best_epoch} was kept."
    return picture(draw, title, f"{ends}.{kept}", 230)


def _first(values: Sequence[float | None]) -> float:
    return next(v for v in values if v is not None)


def before_after(title: str, pairs: Mapping[str, tuple[float, float]]) -> Picture:
    """Accuracy of each class: a ring before, a disk after, and the way between."""

    def draw(axes: Axes, theme: Theme) -> None:
        for place, (before, after) in enumerate(pairs.values()):
            colour = theme.arm("front") if after >= before else theme.arm("ours")
            axes.plot(
                [before, after], [place, place], color=colour, linewidth=2.2, solid_capstyle="butt", zorder=2
            )
            axes.scatter(
                before, place, s=34, facecolors=theme.paper, edgecolors=theme.muted, linewidths=1.4, zorder=3
            )
            axes.scatter(after, place, s=38, color=colour, marker="o" if after >= before else "v", zorder=4)
            right = max(before, after)
            axes.text(right + 0.025, place, points(after - before, 0), va="center", size=FONT_SIZE - 0.4)
        names = [name if len(name) <= 18 else name[:17] + "…" for name in pairs]
        axes.set_yticks(range(len(pairs)), names, color=theme.ink)
        axes.set_ylim(len(pairs) - 0.4, -0.6)
        _percent_axis(axes, "x", 1.14, 1.0)
        axes.set_xlim(-0.03, 1.14)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)

    said = listed([f"{name} {percent(b, 0)} to {percent(a, 0)}" for name, (b, a) in pairs.items()])
    return picture(draw, title, f"{said}.", 66 + 23 * len(pairs))


def values(
    title: str,
    given: Mapping[str, float],
    threshold: float | None = None,
    word: str = "",
    log: bool = False,
    alarm: bool = True,
) -> Picture:
    """Named numbers as bars, or as dots on a logarithmic axis, beside a threshold if there is one.

    Args:
        word: what the threshold is.
        alarm: colour what lies beyond the threshold.
    """

    def draw(axes: Axes, theme: Theme) -> None:
        lengths = list(given.values())
        end = max([*map(abs, lengths), threshold or 0.0]) or 1.0
        least = min([v for v in lengths if v > 0] + [threshold or end]) / 2
        for place, value in enumerate(lengths):
            far = alarm and threshold is not None and value >= threshold
            colour, at = theme.arm("ours" if far else "front"), max(value, least) if log else value
            if log:
                axes.plot([least / 2, at], [place, place], color=colour, linewidth=1.4)
                axes.scatter(at, place, s=42, color=colour, marker="D" if far else "o", zorder=3)
            else:
                axes.barh(place, at, height=0.5, color=colour)
            axes.annotate(
                _number(value),
                (max(at, 0.0), place),
                xytext=(7 if log else 4, 0),
                textcoords="offset points",
                va="center",
                size=FONT_SIZE - 0.4,
            )
        if threshold is not None:
            axes.axvline(threshold, color=theme.ink, linewidth=1, linestyle=(0, (3, 2)))
            late = not log and threshold > 0.6 * end
            axes.annotate(
                f"{word} {threshold:.3g}",
                (threshold, 1),
                xycoords=("data", "axes fraction"),
                xytext=(3 if not late else -3, 3),
                textcoords="offset points",
                ha="right" if late else "left",
                va="bottom",
                color=theme.muted,
                size=FONT_SIZE - 0.4,
            )
        if log:
            axes.set_xscale("log")
            axes.set_xlim(least / 2, end * 4)
            axes.minorticks_off()
        else:
            axes.set_xlim(1.25 * min(0.0, *lengths), end * 1.2)
            axes.axvline(0, color=theme.muted, linewidth=0.8)
        axes.set_yticks(range(len(given)), list(given), color=theme.ink)
        axes.set_ylim(len(given) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)

    said = listed([f"{' '.join(name.split())} {_number(value)}" for name, value in given.items()])
    limit = "" if threshold is None else f" {word} {threshold:.3g}."
    return picture(draw, title, f"{said}.{limit}", 78 + 27 * len(given))


def _number(value: float) -> str:
    """Three figures, and 0.00 for what is too small to be seen."""
    text = f"{value:.3g}" if abs(value) >= 0.01 else f"{abs(value):.2f}"
    return text.replace("-", "\u2212")


def interval(title: str, gain: float, low: float, high: float) -> Picture:
    """A gain with its interval, beside nothing gained; shares."""

    def draw(axes: Axes, theme: Theme) -> None:
        colour = theme.arm("layer3") if low > 0 else theme.arm("ours") if high < 0 else theme.muted
        axes.axvline(0, color=theme.ink, linewidth=1)
        axes.plot([100 * low, 100 * high], [0, 0], color=colour, linewidth=5, solid_capstyle="butt")
        axes.scatter(100 * gain, 0, s=60, color=theme.paper, edgecolors=colour, linewidths=2, zorder=3)
        for value, side in ((low, "right"), (high, "left")):
            axes.annotate(
                points(value),
                (100 * value, 0),
                xytext=(-6 if side == "right" else 6, 0),
                textcoords="offset points",
                ha=side,
                va="center",
            )
        axes.annotate(
            points(gain),
            (100 * gain, 0),
            xytext=(0, 9),
            textcoords="offset points",
            ha="center",
            weight="bold",
        )
        reach = 1.45 * max(100 * abs(low), 100 * abs(high), 5)
        axes.set_xlim(-reach if low < 0 else -0.12 * reach, reach if high > 0 else 0.12 * reach)
        axes.set_ylim(-0.8, 1)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("percentage points")

    words = f"{points(gain)} points, from {points(low)} to {points(high)}."
    return picture(draw, title, words, 105)
