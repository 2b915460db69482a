"""The report's page: sections, tables and notes as HTML. What comes from files is escaped before it is put in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

HERE = Path(__file__).parent
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True)
class Section:
    """One part of the page. `title` is text, `body` is HTML."""

    title: str
    body: str

    @property
    def anchor(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True)
class Html:
    """A table cell that is HTML already, with a class of its style sheet."""

    text: str
    style: str = ""


def table(header: Sequence[str], rows: Sequence[Sequence[str | Html]]) -> str:
    """A table; cells that are text are escaped."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    lines = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'


def tiles(items: Sequence[tuple[str, str]]) -> str:
    """Large numbers, each with what it is."""
    return (
        f'<div class="tiles">'
        f"{''.join(f'<div class=tile><b>{escape(b)}</b><span>{escape(s)}</span></div>' for b, s in items)}</div>"
    )


def charts(figures: Sequence[str]) -> str:
    """Figures side by side; nothing when all are empty."""
    return f'<div class="charts">{"".join(figures)}</div>' if any(figures) else ""


def note(text: str) -> str:
    """Something that the reader must know about what is missing here."""
    return f'<p class="note">{escape(text)}</p>'


def yes_no(value: object) -> Html:
    """Success in a table."""
    return Html("✓ yes", "yes") if value else Html("✗ no", "no")


def page(title: str, subtitle: str, sections: Sequence[Section], footer: str) -> str:
    """The whole document, self-contained: its policy forbids the browser any connection."""
    anchors = [f"{section.anchor}-{i}" for i, section in enumerate(sections)]
    links = "".join(f'<a href="#{a}">{escape(s.title)}</a>' for a, s in zip(anchors, sections, strict=True))
    parts = "".join(
        f'<section id="{a}"><h2>{escape(s.title)}</h2>{s.body}</section>'
        for a, s in zip(anchors, sections, strict=True)
    )
    style = (HERE / "report_page.css").read_text(encoding="utf-8")
    script = (HERE / "report_motion.js").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>\n{style}</style></head><body><main>"
        f"<header><h1>{escape(title)}</h1><p>{escape(subtitle)}</p></header><nav>{links}</nav>"
        f"{parts}<footer>{escape(footer)}</footer></main><script>\n{script}</script></body></html>\n"
    )


def _cell(cell: str | Html) -> str:
    if isinstance(cell, Html):
        return f'<td class="{escape(cell.style)}">{cell.text}</td>' if cell.style else f"<td>{cell.text}</td>"
    return f"<td>{escape(cell)}</td>"
