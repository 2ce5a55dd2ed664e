"""A report as text and as a page that needs nothing but itself."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterator

from pangate.evidence import Report, Section

WIDTH = 100
MOST_LINES = 20
"""Rows of a section that text shows; a page and JSON have all that the report has."""

MOST_CELL = 46
"""Characters of a cell that stay in a line of a table; longer ones are told below each other."""

STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1.1rem; margin: 2rem 0 .3rem }
table { border-collapse: collapse; width: 100%; font-size: .88rem }
th, td { text-align: left; vertical-align: top; padding: .25rem .6rem .25rem 0; border-bottom: 1px solid
#8884;
  overflow-wrap: anywhere }
th { font-weight: 600; white-space: nowrap } .meta { opacity: .7; font-size: .85rem }
.wrong h2 { color: #c22 } .unusual h2::before { content: "\\25CF  "; color: #d80 }
.wrong h2::before { content: "\\25A0  "; color: #c22 }
"""


def text(report: Report) -> str:
    """For a terminal or a mail."""
    return "\n".join(_text(report)) + "\n"


def _text(report: Report) -> Iterator[str]:
    yield f"Review of {report.record}"
    yield f"from {report.since} to before {report.until}, made {report.made} (PCI DSS 10.4.1)"
    yield ""
    yield from report.summary
    unusual = report.unusual
    yield _head("Unusual" if unusual else "Nothing unusual")
    for section in unusual:
        yield from _section(section)
    if report.nothing:
        yield ""
        names = ", ".join(one.title[0].lower() + one.title[1:] for one in report.nothing)
        yield from textwrap.wrap(f"Looked for and not there: {names}.", WIDTH)
    yield _head("As every day")
    for section in report.usual:
        yield from _section(section)


def _head(title: str) -> str:
    return f"\n{title}\n{'=' * len(title)}"


def _section(section: Section) -> Iterator[str]:
    yield ""
    mark = "!! " if section.wrong else ""
    yield f"{mark}{section.title} ({_count(section)}; {', '.join(section.requirements)})"
    if section.note:
        yield from textwrap.wrap(section.note, WIDTH, initial_indent="   ", subsequent_indent="   ")
    if not section.rows:
        yield "   none"
        return
    rows = [[plain(cell) for cell in row] for row in section.rows[:MOST_LINES]]
    sizes = [
        max(len(name), *(len(row[place]) for row in rows))
        for place, name in enumerate(section.columns)
    ]
    if max(sizes) <= MOST_CELL and sum(sizes) + 2 * len(sizes) <= WIDTH:
        for row in (list(section.columns), *rows):
            line = "  ".join(f"{cell:<{size}}" for cell, size in zip(row, sizes, strict=True))
            yield f"   {line}".rstrip()
    else:
        width = max(map(len, section.columns)) + 2
        for number, row in enumerate(rows):
            if number:
                yield ""
            for name, cell in zip(section.columns, row, strict=True):
                if cell:
                    yield from textwrap.wrap(
                        cell,
                        WIDTH,
                        initial_indent=f"   {name + ':':<{width}}",
                        subsequent_indent=" " * (width + 3),
                    )
    if more := section.more + len(section.rows) - len(rows):
        yield f"   and {more:,} more"


def _count(section: Section) -> str:
    count = len(section.rows) + section.more
    return f"{count:,} {'line' if count == 1 else 'lines'}"


def page(report: Report) -> str:
    """An HTML document that asks nobody for anything."""
    return "".join(_page(report))


def _page(report: Report) -> Iterator[str]:
    title = f"Review of {report.since} to {report.until}"
    yield '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    yield '<meta http-equiv="Content-Security-Policy" content="'
    yield "default-src 'none'; style-src 'unsafe-inline'\">"
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{_escape(title)}</title><style>{STYLE}</style></head><body>\n"
    yield f"<h1>{_escape(title)}</h1>"
    yield f'<p class="meta">{_escape(report.record)}, made {_escape(report.made)}. PCI DSS 10.4.1.</p>\n'
    for line in report.summary:
        yield f"<p>{_escape(line)}</p>\n"
    unusual = report.unusual
    if not unusual:
        yield "<p><strong>Nothing unusual.</strong></p>\n"
    for section in unusual:
        yield from _block(section, "wrong" if section.wrong else "unusual")
    if report.nothing:
        names = ", ".join(one.title[0].lower() + one.title[1:] for one in report.nothing)
        yield f"<h2>Looked for and not there</h2><p>{_escape(names)}.</p>\n"
    for section in report.usual:
        yield from _block(section, "usual")
    yield "</body></html>\n"


def _block(section: Section, kind: str) -> Iterator[str]:
    yield f'<section class="{kind}"><h2>{_escape(section.title)}</h2>'
    yield f'<p class="meta">{_count(section)}; PCI DSS {_escape(", ".join(section.requirements))}</p>'
    if section.note:
        yield f"<p>{_escape(section.note)}</p>"
    if section.rows:
        yield "<table><thead><tr>"
        yield from (f"<th>{_escape(name)}</th>" for name in section.columns)
        yield "</tr></thead><tbody>\n"
        for row in section.rows:
            yield f"<tr>{''.join(f'<td>{_escape(cell)}</td>' for cell in row)}</tr>\n"
        yield "</tbody></table>"
    else:
        yield "<p>none</p>"
    if section.more:
        yield f"<p>and {section.more:,} more</p>"
    yield "</section>\n"


def _escape(value: str) -> str:
    return html.escape(plain(value))


def plain(value: str) -> str:
    """`value` without what a terminal takes as an order, or shows in another order than it stands."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in value)
