"""The live view as a picture: what is known now, drawn for a terminal of some size. Pure."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len, set_cell_size
from rich.console import Group
from rich.text import Text

from kubectl_trace.results.dialect import Output
from kubectl_trace.results.folded import key_parts
from kubectl_trace.results.terminal import escape
from kubectl_trace.results.text import render

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import RenderableType

    from kubectl_trace.results.result import Result

SORTS = ("value", "key", "rate")
"""What rows can be sorted by, in the order that the key `s` takes."""

_STATS = {"count", "average", "total"}
_LEAST_ROWS = 3  # of a map, where there are many
_TAIL_SHARE = 3  # printed lines get a third of the screen where there are maps, too


@dataclass(frozen=True)
class MapView:
    """One map, as it was last."""

    name: str
    place: str
    """The node, pod or container that it is of; empty: of all."""
    result: Result
    before: Any = None
    """Its content before that; None: there was none, or rates mean nothing for it."""
    seconds: float = 0
    """Between the two; 0: there is no rate."""
    limited: bool = False
    """Only its greatest entries are known: one that is new may have been there before."""

    @property
    def content(self) -> Any:
        """Its value, or its values by key."""
        return self.result.data[self.name]


@dataclass(frozen=True)
class View:
    """All that is drawn."""

    maps: tuple[MapView, ...] = ()
    lines: tuple[str, ...] = ()
    """What was printed last, without control characters."""
    running: int = 0
    nodes: int = 0
    rate: float = 0
    """Records a second."""
    lost: int = 0
    """Events."""
    age: float = 0
    """Seconds that the trace has run."""
    status: str = ""
    """What happens to the trace now, such as `stopping`; empty: it runs."""
    sort: str = SORTS[0]
    keys: bool = True
    """There is a keyboard."""


@dataclass(frozen=True)
class _Block:
    """A map before it is known how many of its rows fit."""

    title: str
    style: str
    rows: int
    draw: Callable[[int, int], list[Text]]
    """The rows that fit, greatest first, for so many lines and columns."""


def screen(view: View, width: int, height: int) -> RenderableType:
    """Draws a view: exactly `height` lines, none wider than `width` columns."""
    footer = _footer(view, width)
    space = max(0, height - len(footer))
    blocks = [_block(each, view.sort) for each in view.maps]
    tail = view.lines[-(max(3, space // _TAIL_SHARE) if blocks else space) :] if space else ()
    lines = _fit(blocks, space - len(tail), width)
    lines += [Text("")] * (space - len(tail) - len(lines))
    lines += [_cut(Text(line), width) for line in tail]
    return Group(*(lines[:space] + footer)[-height:] if height > 0 else [])


def _fit(blocks: Sequence[_Block], space: int, width: int) -> list[Text]:
    """The maps in the lines there are: each gets its share, small ones leave theirs to others."""
    lines: list[Text] = []
    hidden = 0
    waiting = sorted(range(len(blocks)), key=lambda i: blocks[i].rows)
    room: dict[int, int] = {}
    for done, i in enumerate(waiting):
        share = space // (len(waiting) - done) - 2  # a title, and a blank line after it
        room[i] = min(blocks[i].rows, max(share, _LEAST_ROWS))
        space -= room[i] + 2
    total = sum(room.values()) + 2 * len(room) + space
    for i, block in enumerate(blocks):
        if len(lines) + room[i] + 1 > total:
            hidden += 1
            continue
        lines.append(_cut(Text(block.title, style=block.style), width))
        lines += block.draw(room[i], width)
        lines.append(Text(""))
    if hidden and total > 0:
        more = Text(f"{hidden} more map{'s' if hidden > 1 else ''} below", style="dim")
        lines = [*lines[: total - 1], _cut(more, width)]
    return lines[: max(0, total)]


def _block(view: MapView, sort: str) -> _Block:
    content = view.content
    kind = view.result.type
    keyed = isinstance(content, dict) and not (kind == "stats" and content.keys() == _STATS)
    title = _one_line(f"{view.name} {view.place}".strip())
    if keyed:
        title += f"  {len(content)} key{'' if len(content) == 1 else 's'}"
    if view.result.missing:
        title += f"  without {_one_line(', '.join(view.result.missing))}"
    style = "bold yellow" if view.result.missing else "bold"
    if kind in ("hist", "tseries"):
        return _Block(
            title, style, _drawn_rows(content), lambda rows, width: _drawn(view, rows, width)
        )
    if not keyed and not isinstance(content, dict):
        rate = f"  {_rate_text(_rate(view, '', content))}" if view.seconds > 0 else ""
        return _Block(f"{title}: {_shown(content)}{rate}", style, 0, lambda rows, width: [])
    entries = content if keyed else {"": content}
    rows = len(entries) + (kind == "stats")
    return _Block(title, style, rows, lambda rows, width: _table(view, entries, sort, rows, width))


# Histograms and time series: as bpftrace draws them.


def _drawn_rows(content: Any) -> int:
    series = content.values() if isinstance(content, dict) else [content]
    return sum(len(each) + 2 for each in series if isinstance(each, list))


def _drawn(view: MapView, rows: int, width: int) -> list[Text]:
    content = view.content
    if isinstance(content, dict):
        # Not more than can be seen: drawing is dear.
        seen = heapq.nlargest(max(1, rows // 3), content.items(), key=lambda item: _weight(item[1]))
        content = dict(seen)
    text = render(Output(view.result.type, {view.name: content}))
    lines = escape(text).rstrip("\n").split("\n")
    return [_cut(Text(line), width) for line in lines[:rows]]


def _weight(buckets: Any) -> int:
    """How much a histogram or a time series has seen."""
    try:
        return sum(abs(each.get("count", each.get("value", 0))) for each in buckets)
    except (AttributeError, TypeError):
        return 0


# Everything else: a table.


def _table(view: MapView, entries: dict[str, Any], sort: str, rows: int, width: int) -> list[Text]:
    stats = view.result.type == "stats"
    rates = view.seconds > 0
    order = _by(view, sort)
    if sort == "key":
        chosen = heapq.nsmallest(rows, entries.items(), key=lambda item: _natural(item[0]))
    else:
        chosen = heapq.nlargest(rows, entries.items(), key=lambda item: order(*item))
    cells: list[list[str]] = []
    if stats:
        cells.append(["count", "average", "total"])
        chosen = chosen[: rows - 1]
    for key, value in chosen:
        if stats:
            cells.append(_stats_cells(value))
        else:
            cells.append([_shown(value), _rate_text(_rate(view, key, value)) if rates else ""])
    widths = (
        [max((cell_len(row[i]) for row in cells), default=0) for i in range(len(cells[0]))]
        if cells
        else []
    )
    left = max(8, width - sum(widths) - 2 * len(widths))
    keys = [*([""] if stats else []), *(_one_line(key) for key, _ in chosen)]
    lines = []
    for number, (key, row) in enumerate(zip(keys, cells, strict=True)):
        numbers = "".join(
            f"  {' ' * (widths[i] - cell_len(cell))}{cell}" for i, cell in enumerate(row)
        )
        style = "dim" if stats and number == 0 else ""
        lines.append(
            _cut(Text(set_cell_size(_cut_text(key, left), left) + numbers, style=style), width)
        )
    return lines


def _by(view: MapView, sort: str) -> Callable[[str, Any], tuple[bool, float]]:
    def order(key: str, value: Any) -> tuple[bool, float]:
        if sort == "rate" and view.seconds > 0:
            number: Any = _rate(view, key, value)
        elif isinstance(value, dict):
            number = value.get("total")
        else:
            number = value
        # Texts and the like have no order of their own: they stay as they came, below numbers.
        return isinstance(number, int | float), number if isinstance(number, int | float) else 0

    return order


def _rate(view: MapView, key: str, value: Any) -> float | None:
    before = view.before
    if isinstance(before, dict):
        before = before.get(key, None if view.limited else 0)
    if not isinstance(value, int) or not isinstance(before, int):
        return None
    return (value - before) / view.seconds


def _rate_text(rate: float | None) -> str:
    if rate is None:
        return ""
    return f"{rate:,.0f}/s" if abs(rate) >= 100 or not rate else f"{rate:.1f}/s"


def _stats_cells(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [_shown(value.get(name)) for name in ("count", "average", "total")]
    return ["", _shown(value), ""]


def _shown(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _one_line(render(Output("value", value)).rstrip("\n"))


def _natural(key: str) -> tuple[bool, float, str]:
    """Numbers by their value before texts by their letters."""
    try:
        return False, float(key), ""
    except ValueError:
        return True, 0.0, key


def _one_line(text: str) -> str:
    """A key or a value in one line; of a stack the leaf is first."""
    if "\n" in text:
        parts = key_parts(text)
        text = ", ".join(
            part if isinstance(part, str) else " < ".join(frame.strip() for frame in part)
            for part in parts
        )
    return escape(text).replace("\n", " ").replace("\t", " ").replace("\r", " ")


# What stands below.


def _footer(view: View, width: int) -> list[Text]:
    state = [
        f"{view.running} of {view.nodes} node{'' if view.nodes == 1 else 's'} running",
        f"{view.rate:,.0f} records/s",
        f"{view.lost:,} events lost" if view.lost else "none lost",
        _age(view.age),
    ]
    line = Text(" · ".join(state), style="reverse")
    if view.lost:
        line.stylize("bold", *_span(line.plain, state[2]))
    if view.status:
        line.append(f" · {_one_line(view.status)}", style="bold")
    keys = f"q stop   p pause   s sort: {view.sort}" if view.keys else "Ctrl-C stops"
    footer = [_cut(line, width), _cut(Text(keys, style="dim"), width)]
    footer[0].append(" " * max(0, width - cell_len(footer[0].plain)), style="reverse")
    return footer


def _span(text: str, part: str) -> tuple[int, int]:
    at = text.index(part)
    return at, at + len(part)


def _age(seconds: float) -> str:
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _cut(text: Text, width: int) -> Text:
    text.no_wrap = True
    text.truncate(max(0, width), overflow="ellipsis")
    return text


def _cut_text(text: str, width: int) -> str:
    return text if cell_len(text) <= width else set_cell_size(text, max(0, width - 1)) + "…"
