"""Bars and strips of cells as HTML, for what is counted and not measured over time; they wrap on a narrow page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Bar:
    """A share from 0 to 1 with its name; `ours` sets it off, `text` stands in place of the number."""

    label: str
    share: float
    ours: bool = False
    text: str = ""


@dataclass(frozen=True)
class Cell:
    """One case of a strip: what it is, whether it was passed, and whether it was found out of reach of everybody."""

    label: str
    passed: bool
    beyond: bool = False


def bars(title: str, rows: Sequence[Bar]) -> str:
    """A figure with a bar a row."""
    lines = "".join(
        f'<div class="bar{" ours" if row.ours else ""}"><span>{escape(row.label)}</span>'
        f'<i><b style="width:{100 * min(max(row.share, 0.0), 1.0):.1f}%"></b></i>'
        f"<em>{escape(row.text or f'{row.share:.3f}')}</em></div>"
        for row in rows
    )
    return f"<figure><figcaption>{escape(title)}</figcaption>{lines}</figure>"


def strip(title: str, low: str, high: str, cells: Sequence[Cell]) -> str:
    """A row of cells between the names of its first and last case, and how many were passed."""
    passed = sum(cell.passed for cell in cells)
    count = f"{passed} of {len(cells)}"
    row = "".join(f'<i class="{_kind(cell)}" title="{escape(_words(cell))}"></i>' for cell in cells)
    return (
        f'<div class="strip"><span>{escape(title)}</span><small>{escape(low)}</small>'
        f'<div role="img" aria-label="{escape(f"{title}: {count} passed")}">{row}</div>'
        f"<small>{escape(high)}</small><em>{count}</em></div>"
    )


def _kind(cell: Cell) -> str:
    return "passed" if cell.passed else "failed beyond" if cell.beyond else "failed"


def _words(cell: Cell) -> str:
    return f"{cell.label}: {'passed' if cell.passed else 'failed'}"
