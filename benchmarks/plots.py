"""Small charts as SVG text, for pages that a browser or GitHub shows: bars and lines on logarithmic axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, LABEL, ROW, MARGIN = 860, 300, 20, 28
COLORS = ("#1f6f8b", "#d1495b", "#edae49", "#66a182", "#6c4f77", "#8d8d8d")
_STYLE = "font-family:system-ui,sans-serif;font-size:12px;background:#fff"


def _ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten within a range; powers alone where the range is wide."""
    wide = high / low > 300
    found = [
        m * 10.0**e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1) for m in ((1,) if wide else (1, 2, 5))
    ]
    return [t for t in found if low * 0.999 <= t <= high * 1.001]


def _open(width: float, height: float, title: str) -> list[str]:
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img" style="{_STYLE}">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#fff"/>',
        f'<text x="8" y="18" font-weight="600">{escape(title)}</text>',
    ]


def bars(title: str, values: Mapping[str, float], groups: Mapping[str, str] | None = None, mark: float = 1.0) -> str:
    """Horizontal bars on a logarithmic axis, with a line at `mark`.

    Args:
        title: above the chart.
        values: length of every bar by its label, all above 0.
        groups: label -> group; bars of one group have one colour and the groups a legend.
        mark: where the line stands.

    Raises:
        ValueError: no bar, or a length that is not above 0.
    """
    if not values or min(values.values()) <= 0:
        raise ValueError(f"bars need lengths above 0, got {dict(values)}")
    low, high = min(*values.values(), mark) / 1.3, max(*values.values(), mark) * 1.15
    space = WIDTH - LABEL - 70
    names = list(dict.fromkeys((groups or {}).values()))
    top = 30 + (18 if names else 0)
    height = top + ROW * len(values) + MARGIN

    def x(value: float) -> float:
        return LABEL + space * math.log(value / low) / math.log(high / low)

    lines = _open(WIDTH, height, title)
    for i, name in enumerate(names):
        lines.append(f'<rect x="{8 + 130 * i}" y="28" width="10" height="10" fill="{COLORS[i % len(COLORS)]}"/>')
        lines.append(f'<text x="{22 + 130 * i}" y="37">{escape(name)}</text>')
    for tick in _ticks(low, high):
        lines.append(f'<line x1="{x(tick):.1f}" y1="{top}" x2="{x(tick):.1f}" y2="{height - MARGIN + 4}" stroke="#e4e4e4"/>')
        lines.append(f'<text x="{x(tick):.1f}" y="{height - 8}" text-anchor="middle" fill="#555">{tick:g}</text>')
    for i, (label, value) in enumerate(values.items()):
        y = top + ROW * i
        color = COLORS[names.index(groups[label]) % len(COLORS)] if groups else COLORS[0]
        lines.append(f'<text x="{LABEL - 8}" y="{y + 14}" text-anchor="end">{escape(label)}</text>')
        lines.append(f'<rect x="{LABEL}" y="{y + 3}" width="{max(1.0, x(value) - LABEL):.1f}" height="{ROW - 6}" fill="{color}"/>')
        lines.append(f'<text x="{x(value) + 5:.1f}" y="{y + 14}" fill="#333">{value:.3g}</text>')
    lines.append(
        f'<line x1="{x(mark):.1f}" y1="{top}" x2="{x(mark):.1f}" y2="{height - MARGIN + 4}" stroke="#111" stroke-dasharray="4 3"/>'
    )
    return "\n".join([*lines, "</svg>"]) + "\n"


def curves(title: str, x_label: str, y_label: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Lines through (x, y) points on two logarithmic axes.

    Raises:
        ValueError: no point, or a coordinate that is not above 0.
    """
    points = [p for line in series.values() for p in line]
    if not points or min(min(p) for p in points) <= 0:
        raise ValueError("curves need points with coordinates above 0")
    left, right, top, bottom, height = 70, 210, 34, 44, 380
    low_x, high_x = min(p[0] for p in points) / 1.1, max(p[0] for p in points) * 1.1
    low_y, high_y = min(p[1] for p in points) / 1.25, max(p[1] for p in points) * 1.25

    def x(v: float) -> float:
        return left + (WIDTH - left - right) * math.log(v / low_x) / math.log(high_x / low_x)

    def y(v: float) -> float:
        return height - bottom - (height - top - bottom) * math.log(v / low_y) / math.log(high_y / low_y)

    lines = _open(WIDTH, height, title)
    for tick in _ticks(low_x, high_x):
        lines.append(f'<line x1="{x(tick):.1f}" y1="{top}" x2="{x(tick):.1f}" y2="{height - bottom}" stroke="#e4e4e4"/>')
        lines.append(f'<text x="{x(tick):.1f}" y="{height - bottom + 16}" text-anchor="middle" fill="#555">{tick:g}</text>')
    for tick in _ticks(low_y, high_y):
        lines.append(f'<line x1="{left}" y1="{y(tick):.1f}" x2="{WIDTH - right}" y2="{y(tick):.1f}" stroke="#e4e4e4"/>')
        lines.append(f'<text x="{left - 6}" y="{y(tick) + 4:.1f}" text-anchor="end" fill="#555">{tick:g}</text>')
    lines.append(f'<text x="{(left + WIDTH - right) / 2:.0f}" y="{height - 8}" text-anchor="middle">{escape(x_label)}</text>')
    middle = (top + height - bottom) / 2
    lines.append(f'<text x="16" y="{middle:.0f}" text-anchor="middle" transform="rotate(-90 16 {middle:.0f})">{escape(y_label)}</text>')
    for i, (name, line) in enumerate(series.items()):
        color, dash = COLORS[(i // 2) % len(COLORS)], ' stroke-dasharray="5 4"' if i % 2 else ""
        path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in line)
        lines.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"{dash}/>')
        lines += [f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="3" fill="{color}"/>' for a, b in line]
        at = top + 18 * i + 12
        a, b = WIDTH - right + 12, WIDTH - right + 36
        lines.append(f'<line x1="{a}" y1="{at - 4}" x2="{b}" y2="{at - 4}" stroke="{color}" stroke-width="2"{dash}/>')
        lines.append(f'<text x="{WIDTH - right + 42}" y="{at}">{escape(name)}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"
