"""The parts of a self-contained HTML page. Every function takes plain text, escapes it, and returns HTML."""

import base64
import html
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DASH = "–"
"""What an undefined or missing value is shown as."""

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_SHOWN_SIZE = 0.75
"""Length on the page of a picture's pixel, so that dense screens show it sharp."""

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #5c6470; --line: #d9dde3; --page: #fff; --panel: #f5f7f9;
  --accent: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --soft: #a2abb7; --line: #3a4049; --page: #16181c;
  --panel: #1f2329; --accent: #56b4e9; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 2.5rem 1.5rem 4rem; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 0 0 1.25rem; }
h2 { font-size: 1.2rem; margin: 2.75rem 0 .75rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.75rem 0 .5rem; }
p { max-width: 44rem; margin: .6rem 0; }
p.note, figcaption { color: var(--soft); font-size: .9rem; }
.scroll { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .35rem .9rem .35rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; }
th.number, td.number { text-align: right; padding: .35rem .45rem .35rem .9rem; white-space: nowrap; }
.facts th { white-space: nowrap; padding-right: 1.6rem; }
.headline td { font-size: 1.45rem; font-weight: 600; color: var(--accent); }
figure { margin: 1.5rem 0 2.25rem; break-inside: avoid; }
figure img { display: block; max-width: 100%; height: auto; padding: .6rem; background: #fff;
  border: 1px solid var(--line); border-radius: 6px; }
figcaption { margin-top: .5rem; max-width: 44rem; }
details { margin: .75rem 0; border: 1px solid var(--line); border-radius: 6px; padding: .5rem .9rem; }
summary { cursor: pointer; font-weight: 600; }
pre { overflow-x: auto; padding: .9rem; background: var(--panel); border-radius: 6px; font-size: .82rem;
  line-height: 1.45; }
@media print { :root { --ink: #000; --soft: #444; --line: #bbb; --page: #fff; --panel: #fff; --accent: #000; }
  body { max-width: none; padding: 0; font-size: 10.5pt; } h2, h3 { break-after: avoid; } tr { break-inside: avoid; }
  .scroll { overflow: visible; } pre { white-space: pre-wrap; } }
"""


def page(title: str, sections: Sequence[str]) -> str:
    """A whole page, without scripts and without references to anything outside of it."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<h1>{html.escape(title)}</h1>\n" + "\n".join(sections) + "\n</body>\n</html>\n"
    )


def section(title: str, *parts: str) -> str:
    """Parts, themselves HTML, under a heading."""
    return f"<section>\n<h2>{html.escape(title)}</h2>\n" + "\n".join(parts) + "\n</section>"


def paragraph(text: str) -> str:
    """A paragraph."""
    return f"<p>{html.escape(text)}</p>"


def note(text: str) -> str:
    """A paragraph that explains or qualifies what stands above it."""
    return f'<p class="note">{html.escape(text)}</p>'


def bullets(items: Sequence[str]) -> str:
    """A bulleted list."""
    return "<ul>" + "".join(f"<li>{html.escape(item)}</li>" for item in items) + "</ul>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, words: int = 0, kind: str = "") -> str:
    """A table of texts; the first `words` columns are words and flush left, the others numbers and flush right."""
    sides = ["" if column < words else ' class="number"' for column in range(len(header))]
    head = "".join(f'<th scope="col"{side}>{html.escape(name)}</th>' for side, name in zip(sides, header, strict=True))
    body = "\n".join(
        "<tr>" + "".join(f"<td{side}>{html.escape(cell)}</td>" for side, cell in zip(sides, row, strict=True)) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table class="{html.escape(kind)}">\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )


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


def picture(title: str, caption: str, path: Path) -> str:
    """A PNG, embedded, with its title and caption.

    Raises:
      ValueError: when the file is not a PNG.
    """
    contents = path.read_bytes()
    if not contents.startswith(_PNG_SIGNATURE):
        raise ValueError(f"path={str(path)!r} is not a PNG file; save the figure as PNG.")
    width, height = (int.from_bytes(contents[begin : begin + 4]) for begin in (16, 20))
    encoded = base64.b64encode(contents).decode("ascii")
    return (
        f"<figure>\n<h3>{html.escape(title)}</h3>\n"
        f'<img alt="{html.escape(title)}" width="{width * _SHOWN_SIZE:.0f}" height="{height * _SHOWN_SIZE:.0f}" '
        f'src="data:image/png;base64,{encoded}">\n'
        f"<figcaption>{html.escape(caption)}</figcaption>\n</figure>"
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
