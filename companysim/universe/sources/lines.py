"""From markup to lines: a paragraph, a heading or a table row each, in the order a reader sees them.

HTML breaks lines at its block elements; a short table row is one line, because headings are often set as rows. Old
text filings are wrapped at about 80 columns and cut into pages; their paragraphs are joined again.
"""

from __future__ import annotations

import re

import lxml.etree
import lxml.html

_BLOCKS = frozenset(
    "address blockquote body br center caption dd div dl dt footer form h1 h2 h3 h4 h5 h6 header hr html li ol p pre "
    "section table tbody td th thead tr ul".split()
)
_UNSEEN = frozenset(("head", "script", "style", "title", "noscript", "ix:header"))
_HTML = re.compile(r"<(?:html|body|div|font|p|br|span|td|center)[\s>/]", re.IGNORECASE)
_ROW = 300
"""A table row of several lines is put into one if it has at most so many characters."""
_FULL = 45
"""A line of wrapped text goes on in the next one if it has at least so many characters."""
_PAGE = re.compile(
    r"(?:page\s*)?[-\u2013\u2014\s]*(?:[ivx]{1,5}|[a-z]?-?\d{1,3})[-\u2013\u2014\s]*|(?:back to )?table of contents",
    re.IGNORECASE,
)
_ITEM = re.compile(r"items?\W*", re.IGNORECASE)
_MARK = re.compile(r"(?im)^[ \t]*<(?:/?page|/?table|caption|s|c|fn|/fn|f\d+)>.*$|</?[a-z]{1,8}\d?>")
_COLUMNS = re.compile(r"\S(?: {3,}|\t| ?\.{4,})\s*\S")


def document_lines(document: str) -> list[str]:
    """Lines of an HTML or text document: one space between words, no empty line, no page number.

    What a browser hides is left out, such as the XBRL facts that lie in a document's head, and so are page numbers and
    links to the table of contents.
    """
    lines = _html_lines(document) if _HTML.search(document[:50_000]) else _text_lines(document)
    kept: list[str] = []
    for line in lines:
        if not _PAGE.fullmatch(line) or (kept and _ITEM.fullmatch(kept[-1])):  # "Item" and its number on two lines
            kept.append(line)
    return kept


def _html_lines(document: str) -> list[str]:
    parser = lxml.html.HTMLParser(encoding="utf-8", huge_tree=True, remove_comments=True, remove_pis=True)
    root = lxml.html.document_fromstring(document.encode("utf-8", "replace"), parser=parser)
    lines: list[str] = []
    pieces: list[str] = []
    rows: list[int] = []  # where the lines of each open table row begin
    hidden = None  # the outermost element under way that a browser would not show

    def end_line() -> None:
        line = " ".join("".join(pieces).split())
        pieces.clear()
        if line:
            lines.append(line)

    for event, element in lxml.etree.iterwalk(root, events=("start", "end")):
        tag = element.tag
        if event == "start":
            if hidden is None and (tag in _UNSEEN or _invisible(element.get("style"))):
                hidden = element
            if hidden is not None:
                continue
            if tag in _BLOCKS:
                end_line()
            if tag == "pre":
                lines.extend(_text_lines(element.text_content()))
                hidden = element
                continue
            if tag == "tr":
                rows.append(len(lines))
            pieces.append(element.text or "")
            continue
        if hidden is None and tag in _BLOCKS:
            end_line()
            if tag == "tr" and rows:
                first = rows.pop()
                if sum(map(len, lines[first:])) <= _ROW:
                    lines[first:] = [" ".join(lines[first:])] if lines[first:] else []
        if hidden is element:
            hidden = None
        if hidden is None:
            pieces.append(element.tail or "")
    end_line()
    return lines


def _invisible(style: str | None) -> bool:
    return style is not None and "display:none" in style.replace(" ", "").lower()


def _text_lines(document: str) -> list[str]:
    """Lines of a text filing: wrapped paragraphs joined, rows of tables, headings and lists as they are."""
    lines: list[str] = []
    goes_on = False
    for raw in _MARK.sub("", document.replace("\f", "\n")).splitlines():
        line = " ".join(raw.split())
        table = bool(_COLUMNS.search(raw.strip()))
        if not line or set(line) <= set("-=_*. "):
            goes_on = False
            continue
        if goes_on and not table:
            joined = lines[-1][:-1] + line if re.search(r"[a-z]-$", lines[-1]) else f"{lines[-1]} {line}"
            lines[-1] = joined
        else:
            lines.append(line)
        goes_on = len(line) >= _FULL and not table
    return lines
