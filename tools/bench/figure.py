# SPDX-License-Identifier: MIT
"""Draws small multiples of time over floor as SVG: one panel for each product of each model, tokens along x, both axes
logarithmic. Colours and greys are readable on light and on dark paper; markers tell the series apart without them."""
import math

WIDTH, HEIGHT, LEFT, TOP = 250, 170, 46, 34  # of a panel, and the room before the first ones
GAP_X, GAP_Y = 34, 52
STYLE = """text{font:12px system-ui,sans-serif;fill:#6e7781}.title{font-weight:600}.axis{stroke:#8c959f;fill:none}
.grid{stroke:#8c959f;stroke-opacity:.3}.floor{stroke:#8c959f;stroke-dasharray:4 3}
@media(prefers-color-scheme:dark){text{fill:#c9d1d9}}"""
SERIES = {  # name: colour, marker
    "clmoe": ("#e5484d", "circle"),
    "triton_kernels": ("#3b82f6", "square"),
    "grouped_mm": ("#16a34a", "triangle"),
    "torch.mm loop": ("#b7791f", "cross"),
}


def text(x, y, content, anchor="middle", cls=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{cls}">{content}</text>'


def marker(kind, x, y, colour):
    if kind == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>'
    path = {"square": "M-3.5-3.5h7v7h-7z", "triangle": "M0-4.5l4.5 8h-9z", "cross": "M-4-4l8 8M-4 4l8-8"}[kind]
    return f'<path d="{path}" transform="translate({x:.1f} {y:.1f})" fill="none" stroke="{colour}" stroke-width="1.6"/>'


def ticks(top):
    """1, 1.5, 2, 3, 5, 7, 10, 15, ... up to the first beyond `top`."""
    values, decade = [], 1
    while True:
        for step in 1, 1.5, 2, 3, 5, 7:
            values.append(step * decade)
            if values[-1] >= top:
                return values
        decade *= 10


def short(tokens):
    return f"{tokens // 1024}k" if tokens >= 1024 and tokens % 1024 == 0 else str(tokens)


class Scale:
    """Token counts evenly along x; y from below 1 to the last tick."""

    def __init__(self, tokens, lowest, highest):
        self.tokens, self.ticks = tokens, ticks(highest)
        self.bottom = min(0.9, lowest * 0.95)
        self.range = math.log(self.ticks[-1] / self.bottom) or 1

    def x(self, left, t):
        return left + WIDTH * (self.tokens.index(t) + 0.5) / len(self.tokens)

    def y(self, top, ratio):
        return top + HEIGHT * (1 - math.log(ratio / self.bottom) / self.range)


def panel(scale, left, top, name, series):
    yield text(left + WIDTH / 2, top - 8, name, cls="title")
    for tick in scale.ticks:
        y = scale.y(top, tick)
        yield f'<path d="M{left} {y:.1f}h{WIDTH}" class="{"floor" if tick == 1 else "grid"}"/>'
        yield text(left - 5, y + 4, f"{tick:g}", "end")
    yield f'<path d="M{left} {top}v{HEIGHT}h{WIDTH}" class="axis"/>'
    for t in scale.tokens:
        yield text(scale.x(left, t), top + HEIGHT + 15, short(t))
    for who, points in series.items():
        colour, kind = SERIES[who]
        at = [(scale.x(left, t), scale.y(top, r)) for t, r in sorted(points.items())]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        yield f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="{2 if who == "clmoe" else 1}"/>'
        yield from (marker(kind, x, y, colour) for x, y in at)


def draw(panels):
    """panels: {title: {series name: {tokens: time over floor}}}, drawn in rows of four."""
    ratios = [r for series in panels.values() for points in series.values() for r in points.values()]
    tokens = sorted({t for series in panels.values() for points in series.values() for t in points})
    scale, across = Scale(tokens, min(ratios), max(ratios)), min(4, len(panels))
    down = (len(panels) + across - 1) // across
    width = LEFT + across * (WIDTH + GAP_X)
    height = TOP + 24 + down * (HEIGHT + GAP_Y)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
           f"<style>{STYLE}</style>", text(LEFT, 16, "time over floor, by tokens", "start", "title")]
    for i, (who, (colour, kind)) in enumerate(SERIES.items()):
        out += [marker(kind, LEFT + 240 + 130 * i, 12, colour), text(LEFT + 250 + 130 * i, 16, who, "start")]
    for i, (name, series) in enumerate(panels.items()):
        left, top = LEFT + i % across * (WIDTH + GAP_X), TOP + 24 + i // across * (HEIGHT + GAP_Y)
        out += panel(scale, left, top, name, series)
    return "\n".join(out + ["</svg>", ""])
