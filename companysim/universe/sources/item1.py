"""The business description of an annual report: Item 1 of a 10-K, Item 4 of a 20-F, from its heading to the next.

Headings are found, not guessed from size: a line that begins with an item's number and that item's title. The same
headings stand in the table of contents and may head every page, so the description is the longest stretch that begins
with its heading and ends before a heading of a later item.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from companysim.universe.sources.lines import document_lines

MIN_WORDS = 100
"""A stretch with fewer words is no description: a table of contents, or a pointer to another document."""
_HEADING = 160
"""A line with more characters is a paragraph; a heading may only begin it if a full stop or dash closes the title."""

_PARTS = r"(?:part\s+[ivx]+\b\W*)?"
_ITEM = re.compile(
    rf"\W*{_PARTS}items?(?![a-z])\W*(?P<number>\d{{1,2}}|[li])\s*(?:\(?[a-c]\)?(?![a-z]))?"
    r"(?:\W*\b(?:and|through|to|items?|\d{1,2}[a-c]?)\b)*\W*(?P<title>.*)",
    re.IGNORECASE,
)
"""Item 1, ITEM 1A, Items 1 and 2, Item 1(a), and Item lA with a letter for the digit; then the title."""
_BARE = re.compile(
    rf"\W*{_PARTS}items?(?:[^A-Za-z]|(?<![A-Za-z])(?:[a-c]|[li][a-c]?|and|through|to|items?|general|narrative|description"
    r"|of|the|our)(?![A-Za-z]))*",
    re.IGNORECASE,
)
"""The beginning of a heading whose title, or the rest of it, is on the next line."""
_PART = re.compile(r"\W*part\s+(?:II|III|IV|2)\b\W*(?:\d+|other information|page)?\W*", re.IGNORECASE)
_WHOSE = r"(?:(?:the|our|its|general|(?:company|registrant|corporation|issuer)\W{0,2}s?)\s+)*"
_BUSINESS = re.compile(
    r"(?:(?:general|narrative|current|summary)\s+)?(?:(?:description|development|overview|discussion|nature)\s+of\s+)?"
    rf"{_WHOSE}(?:development\s+of\s+)?(?:the\s+)?business(?:es)?\b",
    re.IGNORECASE,
)
_LATER = re.compile(
    r"risk\s+factors|unresolved\s+staff|cyber\s?security"
    rf"|(?:(?:description|summary)\s+of\s+)?{_WHOSE}(?:real\s+)?propert(?:y|ies)"
    r"|(?:principal\s+)?(?:facilities|plants)\b|real\s+estate\b"
    r"|(?:pending\s+|material\s+|certain\s+)*legal\s+(?:proceedings?|matters)|litigation\b"
    r"|submission\s+of\s+matters|mine\s+safety|(?:removed|reserved)\b|executive\s+officers"
    r"|markets?\s+(?:for|price)",
    re.IGNORECASE,
)
_INFORMATION = re.compile(r"information\s+(?:on|about|regarding)\s+(?:the\s+)?(?:company|registrant|group|bank)", re.I)
_AFTER_4 = re.compile(r"unresolved\s+staff|operating\s+and\s+financial", re.IGNORECASE)
_CONTENTS = re.compile(r"(?:\.{3,}|\s)\s*\d{1,3}$")
"""A heading in the table of contents: with a page number."""
_REFERENCE = re.compile(r"incorporated\s+(?:herein\s+)?by\s+reference", re.IGNORECASE)
_SENTENCE = re.compile(
    r"\W*(?:in|on|of\s+(?:this|our|the\s+(?:annual|form))|contained|included|below|above|for|is|are|contains?|describes?"
    r"|includes?|herein|section|and\s+elsewhere)\b|,|[\"\u201d]",
    re.IGNORECASE,
)
"""What may follow a title in a sentence about it, and not in a heading."""
_RUN_IN = re.compile(r"\s?(?:[.:]|\s?[-\u2013\u2014])+\s*[A-Z(\"\u201c]")
"""What closes the title of a heading that a paragraph follows on the same line."""
_LEAD = " *([-\u2013\u2014\u2022\u00b7"


@dataclass(frozen=True)
class Headings:
    """What begins and what ends a form's business description."""

    item: str
    number: str
    title: re.Pattern[str]
    later: re.Pattern[str]


_DOMESTIC = Headings("Item 1", "1", _BUSINESS, _LATER)
_FOREIGN = Headings("Item 4", "4", _INFORMATION, _AFTER_4)


@dataclass(frozen=True)
class Business:
    """A business description, or why there is none.

    Attributes
    ----------
    text : str
        ``document[start:end]``, its heading included; empty if `reason` is not.
    start, end : int
        Characters of `document`.
    heading, next_heading : str
        The heading it begins with, and the one that ends it.
    reason : str
        Why it was not found; empty if it was.
    document : str
        All lines of the document.
    """

    text: str
    start: int
    end: int
    heading: str
    next_heading: str
    reason: str
    document: str

    @property
    def words(self) -> int:
        """Number of words of the description."""
        return len(self.text.split())


def extract_business(document: str, form: str = "10-K") -> Business:
    """Find the business description of an annual report.

    Parameters
    ----------
    document : str
        HTML or text; see `companysim.universe.sources.submission.read_submission` for what EDGAR wraps around it.
    form : str
        10-K and its variants (10-K405, 10-KSB, ...) have it in Item 1, a 20-F in Item 4 (before 2000 in Item 1);
        amendments are read as what they amend.

    Returns
    -------
    Business
        Without a text if no heading is there, only the table of contents has one, or what stands below it is a
        pointer to another document.
    """
    lines = document_lines(document)
    kinds = (_FOREIGN, _DOMESTIC) if form.upper().startswith(("20-F", "20F")) else (_DOMESTIC,)
    failed = ""
    for kind in kinds:
        first, last, reason = _stretch(lines, kind)
        if not reason:
            offsets = [0, *accumulate(len(line) + 1 for line in lines)]
            text = "\n".join(lines)
            start, end = offsets[first], offsets[last] - 1
            heading, following = _shown(lines, first), _shown(lines, last)
            return Business(text[start:end], start, end, heading, following, "", text)
        failed = failed or reason
    return Business("", 0, 0, "", "", failed, "\n".join(lines))


def _stretch(lines: Sequence[str], kind: Headings) -> tuple[int, int, str]:
    """First line, the line after the last, and why there is none."""
    rows: dict[str, list[int]] = {"start": [], "end": []}
    for row, line in enumerate(lines):
        if line.lstrip(_LEAD)[:4].lower() in ("item", "part"):
            label = _label(_spread(lines, row), kind)
            if label:
                rows[label].append(row)
    starts, ends = rows["start"], rows["end"]
    if not starts:
        return 0, 0, f"no heading of {kind.item}"
    contents = [row for row in starts if _CONTENTS.search(lines[row])]
    starts = [row for row in starts if row not in contents] or starts
    found = []
    for before, end in zip([-1, *ends], ends, strict=False):
        inside = [row for row in starts if before < row < end]
        if inside:
            found.append((inside[0], end))
    if not found:
        return 0, 0, f"{kind.item} has a heading, but none of a later item follows it"
    first, last = max(found, key=lambda pair: sum(map(len, lines[pair[0] : pair[1]])))
    if sum(len(line.split()) for line in lines[first:last]) >= MIN_WORDS:
        return first, last, ""
    if _REFERENCE.search(" ".join(lines[first:last])):
        return 0, 0, f"{kind.item} is incorporated by reference from another document"
    if set(starts) <= set(contents):
        return 0, 0, f"{kind.item} stands in the table of contents only"
    return 0, 0, f"{kind.item} has fewer than {MIN_WORDS} words"


def _spread(lines: Sequence[str], row: int) -> list[str]:
    """Give a line alone, then with the one or two after it as long as it lacks a title: headings may fill three."""
    found = [lines[row]]
    while len(found) <= 2 and _BARE.fullmatch(found[-1]) and row + len(found) < len(lines):
        found.append(f"{found[-1]} {lines[row + len(found)]}")
    return found


def _label(spread: Sequence[str], kind: Headings) -> str:
    """``start``, ``end`` or nothing, for a heading that may go on in the next lines."""
    if _PART.fullmatch(spread[0]):
        return "end"
    item = _ITEM.match(spread[-1])
    if item is None:
        return ""
    number = "1" if item["number"] in "lI" else item["number"]
    for label, fits, title in (
        ("start", number == kind.number, kind.title),
        ("end", int(number) >= int(kind.number), kind.later),
    ):
        found = title.match(item["title"]) if fits else None
        if found and _closed(item["title"][found.end() :], len(spread[-1])):
            return label
    return ""


def _closed(rest: str, length: int) -> bool:
    """Whether what follows a title leaves it a heading, and does not make it the beginning of a sentence."""
    if length <= _HEADING:
        return _SENTENCE.match(rest.lstrip(" ")) is None
    return _RUN_IN.match(rest) is not None


def _shown(lines: Sequence[str], row: int) -> str:
    """Give a heading with its title, where that stands on a later line."""
    line = _spread(lines, row)[-1]
    return line if len(line) <= _HEADING else line[: _HEADING - 3] + "..."
