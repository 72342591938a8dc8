"""The parts of a self-contained HTML page. Every function takes plain text, escapes it, and returns HTML."""

import base64
import dataclasses
import html
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from fedjax_anomaly.reporting.atomic import write_atomically

DASH = "–"
"""What an undefined or missing value is shown as."""

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_SHOWN_SIZE = 0.75
"""Length on the page of a picture's pixel, so that dense screens show it sharp."""

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #5c6470; --line: #d9dde3; --page: #fff; --panel: #f5f7f9;
  --accent: #0072b2; --alert: #a84300; --alert-panel: #fdf3ea; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --soft: #a2abb7; --line: #3a4049; --page: #16181c;
  --panel: #1f2329; --accent: #56b4e9; --alert: #f0a35e; --alert-panel: #2b221a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 66rem; padding: 2.5rem 1.5rem 4rem; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  overflow-wrap: break-word; }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 0 0 .4rem; }
h2 { font-size: 1.25rem; margin: 2.75rem 0 .75rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.75rem 0 .5rem; }
p, li { max-width: 46rem; }
p { margin: .6rem 0; }
p.lead { margin: 0 0 1.25rem; max-width: none; color: var(--soft); }
p.note, figcaption { color: var(--soft); font-size: .9rem; }
.warnings { margin: 1.25rem 0; padding: .8rem 1.1rem; background: var(--alert-panel);
  border-left: 4px solid var(--alert); border-radius: 4px; break-inside: avoid; }
.warnings h2 { font-size: 1rem; margin: 0 0 .3rem; padding: 0; border: 0; color: var(--alert); }
.warnings ul { margin: 0; padding-left: 1.2rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(7rem, 1fr)); gap: .6rem; margin: .75rem 0 1rem; }
.tile { padding: .55rem .8rem .6rem; background: var(--panel); border: 1px solid var(--line); border-radius: 6px; }
.tile dt { color: var(--soft); font-size: .85rem; }
.tile dd { margin: 0; font-size: 1.4rem; line-height: 1.3; font-weight: 600; color: var(--accent);
  font-variant-numeric: tabular-nums; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); gap: 0 2.5rem; }
.columns > * { min-width: 0; }
.scroll { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .35rem .9rem .35rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; }
th.number, td.number { text-align: right; padding: .35rem .45rem .35rem .9rem; }
td.number { white-space: pre; }
.scroll td:first-child { white-space: nowrap; }
thead th { vertical-align: bottom; }
.facts th { padding-right: 1.6rem; }
figure { margin: 1.5rem 0 2.25rem; break-inside: avoid; }
figure h3 { margin-top: 0; }
figure .scroll { width: fit-content; max-width: 100%; margin: 0; padding: .6rem; background: #fff;
  border: 1px solid var(--line); border-radius: 6px; }
figure img { display: block; max-width: 100%; height: auto; }
figcaption { margin-top: .5rem; max-width: 46rem; }
details { margin: .75rem 0; border: 1px solid var(--line); border-radius: 6px; padding: .5rem .9rem; }
summary { cursor: pointer; font-weight: 600; }
pre { overflow-x: auto; padding: .9rem; background: var(--panel); border-radius: 6px; font-size: .82rem;
  line-height: 1.45; columns: 26rem; white-space: pre-wrap; overflow-wrap: anywhere; }
@media (max-width: 40rem) { body { padding: 1.5rem 1rem 3rem; } h1 { font-size: 1.4rem; }
  .tiles { grid-template-columns: repeat(auto-fit, minmax(5.5rem, 1fr)); gap: .4rem; }
  .tile { padding: .4rem .6rem; } .tile dd { font-size: 1.15rem; }
  figure img { max-width: none; width: 30rem; } }
@page { margin: 15mm 14mm; }
@media print { :root { --ink: #000; --soft: #444; --line: #bbb; --page: #fff; --panel: #fff; --accent: #000;
  --alert: #000; --alert-panel: #fff; }
  body { max-width: none; padding: 0; font-size: 10pt; line-height: 1.4; } h1 { font-size: 17pt; }
  h2, h3, summary { break-after: avoid; } tr, .tile, .columns > * { break-inside: avoid; }
  h2 { margin-top: 1.6rem; } thead { display: table-header-group; } .scroll { overflow: visible; }
  figure { margin: 1rem 0; } figure .scroll { border: 0; padding: 0; }
  figure img { max-width: 100%; max-height: 8cm; object-fit: contain; object-position: left; }
  details { border: 0; padding: 0; } details::details-content { content-visibility: visible; block-size: auto; }
  pre { padding: 0; font-size: 7.5pt; columns: 2; } }
"""


Part = Literal["detection", "training", "clients"]
"""Where on a page a figure stands."""


@dataclasses.dataclass(frozen=True)
class ReportFigure:
    """A figure on a page.

    Attributes:
      title: shown above it, and read out in its place.
      caption: shown below it.
      path: of its PNG file.
      part: the part of the page that it belongs to.
    """

    title: str
    caption: str
    path: Path
    part: Part = "detection"


def write_page(path: str | Path, title: str, lead: str, parts: Sequence[str]) -> None:
    """Writes a whole page, without scripts and without references to anything outside of it.

    Args:
      path: of the HTML file.
      title: the page's heading.
      lead: the line under it.
      parts: HTML; empty ones are left out.
    """
    contents = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f'<body>\n<h1>{html.escape(title)}</h1>\n<p class="lead">{html.escape(lead)}</p>\n'
        + "\n".join(part for part in parts if part)
        + "\n</body>\n</html>\n"
    )
    write_atomically(path, contents.encode())


def section(title: str, *parts: str) -> str:
    """Parts, themselves HTML, under a heading."""
    return f"<section>\n<h2>{html.escape(title)}</h2>\n" + "\n".join(part for part in parts if part) + "\n</section>"


def heading(title: str) -> str:
    """A heading within a section."""
    return f"<h3>{html.escape(title)}</h3>"


def warnings(items: Sequence[str]) -> str:
    """What a reader must know before the rest; nothing where there is nothing to warn of."""
    if not items:
        return ""
    return f'<section class="warnings">\n<h2>Before you read on</h2>\n{bullets(items)}\n</section>'


def columns(*parts: str) -> str:
    """Parts, themselves HTML, side by side where the page is wide enough."""
    return '<div class="columns">\n' + "\n".join(f"<div>{part}</div>" for part in parts if part) + "\n</div>"


def paragraph(text: str) -> str:
    """A paragraph."""
    return f"<p>{html.escape(text)}</p>"


def note(text: str) -> str:
    """A paragraph that explains or qualifies what stands above it."""
    return f'<p class="note">{html.escape(text)}</p>'


def bullets(items: Sequence[str]) -> str:
    """A bulleted list."""
    return "<ul>" + "".join(f"<li>{html.escape(item)}</li>" for item in items) + "</ul>"


def tiles(pairs: Mapping[str, str]) -> str:
    """Names and values that stand out, each in a box."""
    boxes = "\n".join(
        f'<div class="tile"><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>'
        for name, value in pairs.items()
    )
    return f'<dl class="tiles">\n{boxes}\n</dl>'


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, words: int = 0) -> str:
    """A table of texts; the first `words` columns are words and flush left, the others numbers and flush right."""
    sides = ["" if column < words else ' class="number"' for column in range(len(header))]
    head = "".join(f'<th scope="col"{side}>{html.escape(name)}</th>' for side, name in zip(sides, header, strict=True))
    body = "\n".join(
        "<tr>" + "".join(f"<td{side}>{html.escape(cell)}</td>" for side, cell in zip(sides, row, strict=True)) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def facts(pairs: Mapping[str, str]) -> str:
    """A two-column table of names and values."""
    rows = "\n".join(
        f'<tr><th scope="row">{html.escape(name)}</th><td>{html.escape(value)}</td></tr>'
        for name, value in pairs.items()
    )
    return f'<div class="scroll"><table class="facts">\n<tbody>\n{rows}\n</tbody>\n</table></div>'


def collapsed(summary: str, content: str) -> str:
    """Content, itself HTML, that opens on a click."""
    return f"<details>\n<summary>{html.escape(summary)}</summary>\n{content}\n</details>"


def json_block(value: Mapping[str, Any]) -> str:
    """A dictionary, printed as JSON."""
    return f"<pre>{html.escape(json.dumps(value, indent=2, default=str))}</pre>"


def pictures(figures: Sequence[ReportFigure], part: str) -> str:
    """The figures of one part, in their order.

    Raises:
      ValueError: when the file of one is not a PNG.
    """
    return "\n".join(_picture(figure) for figure in figures if figure.part == part)


def _picture(figure: ReportFigure) -> str:
    """A PNG, embedded, with its title and caption."""
    contents = figure.path.read_bytes()
    if not contents.startswith(_PNG_SIGNATURE):
        raise ValueError(f"path={str(figure.path)!r} is not a PNG file; save the figure as PNG.")
    width, height = (int.from_bytes(contents[begin : begin + 4]) for begin in (16, 20))
    encoded = base64.b64encode(contents).decode("ascii")
    title = html.escape(figure.title)
    return (
        f"<figure>\n<h3>{title}</h3>\n"
        f'<div class="scroll"><img alt="{title}" width="{width * _SHOWN_SIZE:.0f}" '
        f'height="{height * _SHOWN_SIZE:.0f}" src="data:image/png;base64,{encoded}"></div>\n'
        f"<figcaption>{html.escape(figure.caption)}</figcaption>\n</figure>"
    )


def number(value: Any, pattern: str = "{:.4f}") -> str:
    """A number in a format, a text as it is, and a dash for what is undefined."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return DASH
    return value if isinstance(value, str) else pattern.format(value)


def count(value: Any) -> str:
    """A whole number with thousands set apart."""
    return number(value, "{:,}")


def byte_count(value: float | None) -> str:
    """Bytes, in the decimal unit that leaves one to three digits before the point."""
    if value is None:
        return DASH
    size = float(value)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000.0
    return f"{size:,.3g} TB"


def duration(seconds: float | None) -> str:
    """Seconds, in the unit that keeps the number short."""
    if seconds is None:
        return DASH
    for unit, size, bound in (("s", 1.0, 120.0), ("min", 60.0, 7200.0), ("h", 3600.0, 172800.0)):
        if seconds < bound:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 86400.0:,.3g} days"
