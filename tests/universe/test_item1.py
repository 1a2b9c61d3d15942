"""Where a business description begins and ends: real shapes of headings, in HTML and in old text filings."""

from __future__ import annotations

from calendar import monthrange
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from companysim.universe.sources.item1 import extract_business
from companysim.universe.sources.lines import document_lines
from companysim.universe.sources.submission import fiscal_year, read_submission, report_end
from pipelines.measure_item1 import documents
from tests.edgar_world import html_report, text_report, words

SHARED = Path(__file__).parents[3] / "shared" / "data"
BODY = words("mill")
END = "<p>Item 2. Properties</p><p>A mill.</p><p>PART II</p>"


def html(*blocks: str) -> str:
    return "<html><body>" + "".join(f"<p>{block}</p>" for block in blocks) + END + "</body></html>"


# HTML.


@pytest.mark.parametrize(
    "heading",
    [
        "Item 1. Business",
        "ITEM 1 - BUSINESS",
        "ITEM 1 &#8211; BUSINESS",
        "Item&#160;1.&#160;&#160;Business.",
        "Item 1.Business",
        "Item1. Business",
        "Item l. Business",
        "<span>It</span><span>em 1</span><b>.</b> <i>Business</i>",
        "PART I. Item 1. Business",
        "Item 1. Description of Business",
        "Item 1. Our Business",
        "Item 1. The Company's Business",
        "Item 1(a). General Development of Business",
        "Items 1 and 2. Business and Properties",
        "Items 1. and 2. Business and Properties.",
        "ITEM 1. BUSINESS OF THE MILL COMPANY",
    ],
)
@pytest.mark.parametrize("end", ["Item 1A. Risk Factors", "ITEM 1A &#8212; RISK FACTORS", "Item lA. Risk Factors."])
def test_headings_of_html(heading: str, end: str) -> None:
    found = extract_business(html("Item 1. Business 3", "Item 1A. Risk Factors 7", heading, BODY, end, "Some."))
    assert found.reason == ""
    assert found.text.endswith(BODY)
    assert found.text.count("\n") == 1
    assert found.text == found.document[found.start : found.end]


@pytest.mark.parametrize(
    "blocks",
    [
        ("ITEM 1.", "BUSINESS"),
        ("Item", "1.", "Business"),
        ("Item", "1", "Business"),
        ("ITEM 1. DESCRIPTION OF", "BUSINESS"),
    ],
)
def test_a_heading_on_several_lines(blocks: tuple[str, ...]) -> None:
    found = extract_business(html(*blocks, BODY, "Item 1A.", "Risk Factors", "Some."))
    assert found.text.split("\n") == [*blocks, BODY]
    assert found.heading == " ".join(blocks)
    assert found.next_heading == "Item 1A. Risk Factors"


@pytest.mark.parametrize(
    "line",
    [
        "Item 1A. Risk Factors of this report describes what may go wrong.",
        "Item 1A, &#8220;Risk Factors&#8221; says what may go wrong.",
        "Item 2. Properties in this report names the mills.",
        "&#8220;Item 1A. Risk Factors &#8212; Our Mills&#8221; says more.",
        "Part II of this report holds the figures.",
        "Item 7. Management's Discussion and Analysis",
        "Items sold in our shops are risk factors.",
        "Property of Part I",
    ],
)
def test_lines_that_end_no_description(line: str) -> None:
    found = extract_business(html("Item 1. Business", BODY, line, "Last words.", "Item 1A. Risk Factors", "Some."))
    assert found.text.endswith("Last words.")


@pytest.mark.parametrize(
    "end",
    [
        "Item 1A. Risk Factors",
        "Item 1B. Unresolved Staff Comments",
        "Item 1C. Cybersecurity",
        "ITEM 1C. CYBER SECURITY",
        "Item 2. Description of Property",
        "Item 2. Our Facilities",
        "ITEM 2. PROPERTIES AND EQUIPMENT",
        "Item 3. Legal Proceedings",
        "Item 4. Submission of Matters to a Vote of Security Holders",
        "Item 4. (Removed and Reserved)",
        "PART II",
        "Part II Other Information",
    ],
)
def test_any_later_heading_ends_it(end: str) -> None:
    if end == "Item 2. Our Facilities":
        end = "Item 2. Facilities"
    found = extract_business(html("Item 1. Business", BODY, end, words("later", 300)))
    assert found.text.endswith(BODY)
    assert found.next_heading == end


def test_a_heading_may_run_into_its_paragraph() -> None:
    after = "Item 2. Properties. The " + words("land", 60)
    found = extract_business(html(f"Item 1. Business. The {BODY}", "More.", after))
    assert found.text.endswith("\nMore.")
    assert found.heading.endswith("...")


def test_page_heads_page_numbers_and_links_are_no_end_and_no_text() -> None:
    blocks = []
    for page in range(4, 9):
        blocks += [f"{page}", "Table of Contents", "Item 1. Business", words(f"page{page}", 60)]
    found = extract_business(html("PART I", "Item 1. Business", *blocks, "- 9 -", "Item 1A. Risk Factors", "Some."))
    assert found.text.count("page") > 20
    assert found.text.endswith(words("page8", 60))
    assert not {"4", "- 9 -", "Table of Contents"} & set(found.text.split("\n"))


def test_the_longest_stretch_is_taken_not_the_contents_or_a_later_mention() -> None:
    found = extract_business(
        html("Item 1. Business", "Item 1A. Risk Factors", "Item 1. Business", BODY, BODY, "Item 1A. Risk Factors", "x",
             "PART II", "Item 1. Business", BODY, "Item 2. Properties")
    )  # fmt: skip
    assert found.text == f"Item 1. Business\n{BODY}\n{BODY}"


def test_a_line_of_the_contents_is_no_beginning() -> None:
    contents = ("Item 1. Business 3", "Item 7. Management's Discussion and Analysis 20", "Words before.")
    found = extract_business(html(*contents, "Item 1. Business", BODY, "Item 1A. Risk Factors", "Some."))
    assert found.text == f"Item 1. Business\n{BODY}"


def test_a_row_of_a_table_is_a_line_and_a_page_in_a_table_is_not() -> None:
    page = f"<table><tr><td><p>Item 1.</p></td><td><p>Business</p></td></tr></table><table><tr><td><p>{BODY}</p>"
    page += f"<p>Second. {BODY}</p></td></tr></table>"
    assert document_lines(f"<html><body>{page}</body></html>") == ["Item 1. Business", BODY, f"Second. {BODY}"]


def test_what_a_browser_hides_is_left_out() -> None:
    page = "<html><head><title>Item 1</title><style>p {}</style></head><body><!-- gone --><script>x()</script>"
    page += (
        "<div style='DISPLAY: none'><p>hidden</p></div> tail <p>a<br>b&nbsp;&nbsp;c &amp; d</p><ix:header>f</ix:header>"
    )
    assert document_lines(page + "</body></html>") == ["tail", "a", "b c & d"]


def test_html_that_holds_wrapped_text() -> None:
    page = f"<html><body><pre>\n{text_report(BODY, 'ITEM 1.  BUSINESS')}\n</pre></body></html>"
    assert extract_business(page).text == extract_business(text_report(BODY, "ITEM 1.  BUSINESS")).text


# Text filings before 2001.


@pytest.mark.parametrize(
    "start",
    [
        "ITEM 1.  BUSINESS",
        "Item 1. BUSINESS.",
        "                               ITEM 1. BUSINESS",
        "ITEM 1.   DESCRIPTION OF\n          BUSINESS",
        "ITEM 1.\n\nBUSINESS",
        "Item 1.  Business\n--------  --------",
        "ITEM 1. BUSINESS\nGENERAL",
        "ITEMS 1 AND 2.  BUSINESS AND PROPERTIES",
    ],
)
def test_old_text_filings(start: str) -> None:
    after = "ITEM 3.  LEGAL PROCEEDINGS\n\n     None." if "AND 2" in start else "ITEM 2.  PROPERTIES\n\n     A mill."
    found = extract_business(text_report(BODY, start, after=after))
    assert found.reason == ""
    lines = found.text.split("\n")
    assert BODY in " ".join(lines)  # no line break, page mark or page number stands in it
    assert lines[-2:] == ["Flour ...................... $ 12 $ 11", "Feed ....................... 3 4"]
    assert "<" not in found.text
    assert found.next_heading.upper().startswith(("ITEM 2.", "ITEM 3."))


def test_a_reference_inside_a_wrapped_paragraph_ends_nothing() -> None:
    inside = (
        "\n  The mills are leased for long terms, as is said in more words under\n  Item 2. Properties. They grind.\n"
    )
    found = extract_business(text_report(BODY, "ITEM 1.  BUSINESS", inside))
    assert "They grind." in found.text
    assert found.next_heading == "ITEM 2. PROPERTIES"


def test_words_cut_at_the_end_of_a_line_are_joined() -> None:
    text = "A line that is long enough to go on, at last with a wrap-\nped word. Another one.\n"
    assert document_lines(text) == ["A line that is long enough to go on, at last with a wrapped word. Another one."]


# Other forms, and none.


def test_small_business_issuers() -> None:
    page = html("Item 1. Description of Business", BODY, "Item 2. Description of Property", "A mill.")
    assert extract_business(page, "10-KSB").text.endswith(BODY)


def test_a_foreign_issuer_has_it_in_item_4() -> None:
    blocks = [
        "Item 1. Identity of Directors",
        "None.",
        "Item 3. Key Information",
        "Item 4. Information on the Company",
        BODY,
    ]
    page = html(*blocks, "Item 4A. Unresolved Staff Comments", "Item 5. Operating and Financial Review and Prospects")
    found = extract_business(page, "20-F")
    assert found.text == f"Item 4. Information on the Company\n{BODY}"
    assert extract_business(page, "10-K").reason == "no heading of Item 1"


def test_before_2000_a_foreign_issuer_had_it_in_item_1() -> None:
    page = html("Item 1. Description of Business", BODY, "Item 2. Description of Property", "A mill.")
    assert extract_business(page, "20-F").text.endswith(BODY)


@pytest.mark.parametrize(
    ("blocks", "reason"),
    [
        (("PART III", "Item 10. Directors and Executive Officers", BODY), "no heading of Item 1"),
        (("Item 1. Business 3", "Item 1A. Risk Factors 9", BODY), "Item 1 stands in the table of contents only"),
        (("Item 1. Business ...... 3", "Item 1A. Risk Factors"), "Item 1 stands in the table of contents only"),
        (("Item 1. Business", "It is incorporated by reference to the annual report to shareholders.",
          "Item 1A. Risk Factors"), "Item 1 is incorporated by reference from another document"),
        (("Item 1. Business", "None.", "Item 1A. Risk Factors"), "Item 1 has fewer than 100 words"),
    ],
)  # fmt: skip
def test_why_there_is_none(blocks: tuple[str, ...], reason: str) -> None:
    found = extract_business(html(*blocks))
    assert found.reason == reason
    assert (found.text, found.start, found.end, found.words) == ("", 0, 0, 0)


def test_a_heading_that_nothing_ends() -> None:
    found = extract_business(f"<html><body><p>Item 1. Business</p><p>{BODY}</p></body></html>")
    assert found.reason == "Item 1 has a heading, but none of a later item follows it"


@pytest.mark.parametrize("document", ["", " ", "<html></html>", "<p></p>", "\x00", "<html><body><table><tr></table>"])
def test_empty_and_broken_documents_have_a_reason(document: str) -> None:
    assert extract_business(document).reason == "no heading of Item 1"


@given(st.text(max_size=300), st.booleans())
@settings(max_examples=200, deadline=None)
def test_no_document_breaks_it(text: str, markup: bool) -> None:
    found = extract_business(f"<html><body><p>{text}</p></body></html>" if markup else text)
    assert found.text == found.document[found.start : found.end]


@pytest.mark.parametrize(
    "line",
    ["Item 1" + " ." * 2000 + "x", "Item " + "1 " * 2000 + "x", "Item 1 and " * 300 + "x", "Item 1. " + "the " * 2000,
     "Item 1" + "(" * 3000, "Item 1. Business" + " -" * 2000, "Item 2" + "\u00b7 " * 2000 + "and"],
)  # fmt: skip
def test_odd_lines_take_no_longer_than_others(line: str) -> None:
    """A pattern that backtracks without end would hang here."""
    found = extract_business(html("Item 1. Business", *[line] * 20, BODY, "Item 1A. Risk Factors", "Some."))
    assert found.text.endswith(BODY)


# The wrapping.


HEADER = """-----BEGIN PRIVACY-ENHANCED MESSAGE-----
<IMS-DOCUMENT>0000000007-96-000003.txt : 19960930
<IMS-HEADER>0000000007-96-000003.hdr.sgml : 19960930
ACCESSION NUMBER:\t\t0000000007-96-000003
CONFORMED SUBMISSION TYPE:\t10-K405
CONFORMED PERIOD OF REPORT:\t19960630
FILED AS OF DATE:\t\t19960928
FILER:
\tCOMPANY DATA:\t
\t\tCOMPANY CONFORMED NAME:\t\t\tFIRST MILL CO
\t\tCENTRAL INDEX KEY:\t\t\t0000000007
\t\tSTANDARD INDUSTRIAL CLASSIFICATION:\tGRAIN MILL PRODUCTS [2040]
FILER:
\tCOMPANY DATA:\t
\t\tCOMPANY CONFORMED NAME:\t\t\tSECOND MILL CO
\t\tCENTRAL INDEX KEY:\t\t\t0000000008
</IMS-HEADER>
"""


def test_submission_of_the_nineties() -> None:
    report = text_report(BODY, "ITEM 1.  BUSINESS")
    exhibit = "<DOCUMENT>\n<TYPE>EX-27\n<TEXT>\n0\n</TEXT>\n</DOCUMENT>\n"
    annual = f"<DOCUMENT>\n<TYPE>10-K405\n<TEXT>\n{report}</TEXT>\n</DOCUMENT>\n"
    content = f"{HEADER}{exhibit}{annual}</IMS-DOCUMENT>\n".encode("cp1252")
    found = read_submission(content)
    assert (found.form, found.accession, found.cik, found.sic) == ("10-K405", "0000000007-96-000003", 7, "2040")
    assert (found.company, found.period, found.filed) == ("FIRST MILL CO", "1996-06-30", "1996-09-28")
    assert found.document.strip() == report.strip()
    second = read_submission(content, 8)
    assert (second.company, second.cik, second.sic) == ("SECOND MILL CO", 8, "")
    end = content.rindex(b"</DOCUMENT>") + len(b"</DOCUMENT>")
    assert report_end(content) == end
    assert [report_end(content[:cut]) for cut in (end - 1, end, 10, 0)] == [0, end, 0, 0]


def test_a_bare_document_has_no_header() -> None:
    found = read_submission(html_report(BODY).encode())
    assert (found.form, found.cik, found.filed, found.accession) == ("", 0, "", "")
    assert extract_business(found.document).text.startswith(f"Item 1. Business\n{BODY}")


def test_letters_of_windows_and_of_unicode() -> None:
    text = "M\u00fcller\u2019s \u201cmill\u201d"
    assert read_submission(text.encode("cp1252")).document == text
    assert read_submission(f"\ufeff{text}".encode()).document == text


@pytest.mark.parametrize(
    ("period", "year"),
    [
        ("2015-12-31", 2015),
        ("2012-01-01", 2011),  # 52 or 53 weeks kept by December
        ("2016-01-30", 2015),
        ("2016-05-31", 2015),
        ("2012-06-02", 2011),  # 52 or 53 weeks kept by May
        ("2013-06-01", 2012),
        ("2014-05-31", 2013),
        ("2016-06-07", 2015),
        ("2016-06-08", 2016),
    ],
)
def test_fiscal_year(period: str, year: int) -> None:
    assert fiscal_year(period) == year


@pytest.mark.parametrize("rule", ["last", "nearest"])
@pytest.mark.parametrize("month", range(1, 13))
def test_years_of_52_or_53_weeks_follow_each_other(month: int, rule: str) -> None:
    for weekday in range(7):  # a year ends on the last one of the month, or on the one nearest to the month's end
        found = []
        for year in range(1990, 2031):
            end = date(year, month, monthrange(year, month)[1])
            back = (end.weekday() - weekday) % 7
            end -= timedelta(back if rule == "last" or back <= 3 else back - 7)
            found.append(fiscal_year(end.isoformat()))
        assert np.diff(found).tolist() == [1] * 40


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data")
def test_real_documents_begin_and_end_where_they_should() -> None:
    found = documents(SHARED)
    assert len(found) == 48
    assert found["right"].mean() >= 0.95, found[~found["right"]].to_string()
