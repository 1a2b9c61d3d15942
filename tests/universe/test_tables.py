"""Reading and refusing tables: CSV and parquet alike, and one helpful sentence for every bad input."""

from __future__ import annotations

import datetime
import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from companysim.errors import DataError
from companysim.universe import COMPANIES, FILINGS, PRICES, check_table, read_table
from companysim.universe.panels import panel
from companysim.universe.schemas import CLASSIFICATIONS, PAIRS, PARTITIONS, RETURNS, factors_schema
from companysim.universe.tables import examine

GOOD = {
    "filings": pd.DataFrame(
        {
            "filing_id": ["f1", "f2", "f3"],
            "cik": [11, 22, 33],
            "ticker": ["A", "B", "C"],
            "company": ["Ay, Inc.", "Bee", "Cee"],
            "fiscal_year": [2011, 2011, 2012],
            "filed": pd.to_datetime(["2012-03-01", "2012-02-29", "2013-03-01"]).astype("datetime64[ns]"),
            "text": ["It sells engines.", 'It "digs"\nfor copper.', "Banks, mostly."],
        }
    ),
    "companies": pd.DataFrame(
        {
            "ticker": ["A", "B", "C"],
            "cik": [11, 22, 33],
            "company": ["Ay, Inc.", "Bee", "Cee"],
            "sic": ["0100", "3571", ""],
            "sic_source": ["edgar", "unverified", ""],
            "gics": ["10101010", "", "45202030"],
            "gics_source": ["vendor", "", "vendor"],
        }
    ),
    "prices": pd.DataFrame(
        {
            "date": pd.to_datetime(["2012-01-03", "2012-01-03", "2012-01-04"]).astype("datetime64[ns]"),
            "ticker": ["A", "B", "A"],
            "adj_close": [0.1, 123456.789012345, 1 / 3],
        }
    ),
}
SCHEMAS = {"filings": FILINGS, "companies": COMPANIES, "prices": PRICES}
OPTIONAL = {"sic", "sic_source", "gics", "gics_source"}
REQUIRED = [(name, column) for name, frame in GOOD.items() for column in frame if column not in OPTIONAL]
# What a word of text, a number or a day may be made of; lone carriage returns are no part of the contract.
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Z"]), min_size=1, max_size=8)


def as_csv(folder: Path, frame: pd.DataFrame) -> Path:
    frame.to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


def as_csv_gz(folder: Path, frame: pd.DataFrame) -> Path:
    frame.to_csv(folder / "table.csv.gz", index=False)
    return folder / "table.csv.gz"


def as_parquet(folder: Path, frame: pd.DataFrame) -> Path:
    frame.to_parquet(folder / "table.parquet", index=False)
    return folder / "table.parquet"


WRITERS = [as_csv, as_csv_gz, as_parquet]
Writer = Callable[[Path, pd.DataFrame], Path]


def refusal(path: Path, schema: pa.DataFrameSchema) -> str:
    """The message of the DataError that reading must raise: one printable line that names the file."""
    with pytest.raises(DataError) as caught:
        read_table(path, schema)
    message = str(caught.value)
    assert message.isprintable()
    assert str(path) in message
    return message


def with_bad(name: str, column: str, value: object) -> pd.DataFrame:
    """A good table whose second and third row hold `value` in `column`; row 2 is the first bad one."""
    frame = GOOD[name].astype({column: object})
    frame.loc[1:, column] = pd.Series([value, value], index=[1, 2], dtype=object)
    return frame


# Reading


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("write", WRITERS)
def test_every_format_gives_back_the_table_that_was_written(tmp_path: Path, name: str, write: Writer) -> None:
    assert_frame_equal(read_table(write(tmp_path, GOOD[name]), SCHEMAS[name]), GOOD[name], check_exact=True)


@settings(max_examples=15, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.dates(datetime.date(1900, 1, 1), datetime.date(2025, 12, 31)),
            TEXT,
            st.floats(min_value=5e-324, max_value=1e300, allow_subnormal=True),
        ),
        min_size=1,
        max_size=6,
        unique_by=lambda row: row[:2],
    )
)
def test_any_prices_read_exactly_alike_from_csv_and_parquet(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[datetime.date, str, float]]
) -> None:
    folder = tmp_path_factory.mktemp("prices")
    frame = pd.DataFrame(rows, columns=["date", "ticker", "adj_close"])
    frame["date"] = pd.to_datetime(frame["date"]).astype("datetime64[ns]")
    for write in WRITERS:
        assert_frame_equal(read_table(write(folder, frame), PRICES), frame, check_exact=True)


@settings(max_examples=15, deadline=None)
@given(texts=st.lists(st.text(st.sampled_from("ab1 ,;\"'\n\t#\\é中"), max_size=12), min_size=1, max_size=5))
def test_any_text_with_a_word_reads_alike_from_csv_and_parquet(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    texts = [f"{text}word" for text in texts]
    folder = tmp_path_factory.mktemp("filings")
    frame = pd.concat([GOOD["filings"].iloc[:1]] * len(texts), ignore_index=True)
    frame = frame.assign(text=texts, filing_id=[f"f{i}" for i in range(len(texts))])
    for write in WRITERS:
        found = read_table(write(folder, frame), FILINGS)
        assert found["text"].tolist() == [text.strip() for text in texts]


@pytest.mark.parametrize(
    "ticker", ["NA", "NULL", "null", "nan", "NaN", "TRUE", "True", "None", "1E5", "0012", "N/A", "#N/A"]
)
@pytest.mark.parametrize("write", WRITERS)
def test_a_ticker_that_looks_like_something_else_stays_itself(tmp_path: Path, ticker: str, write: Writer) -> None:
    found = read_table(write(tmp_path, GOOD["prices"].replace({"ticker": {"B": ticker}})), PRICES)
    assert found["ticker"].tolist() == ["A", ticker, "A"]


def test_sic_codes_keep_their_leading_zero_from_csv(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("ticker,cik,company,sic,sic_source,gics,gics_source\nA,1,Ay,0100,edgar,,\n")
    assert read_table(tmp_path / "c.csv", COMPANIES)["sic"].tolist() == ["0100"]


def test_missing_codes_in_parquet_are_empty_text(tmp_path: Path) -> None:
    frame = GOOD["companies"].assign(sic=["0100", None, np.nan], gics=None)
    found = read_table(as_parquet(tmp_path, frame), COMPANIES)
    assert found["sic"].tolist() == ["0100", "", ""]
    assert found["gics"].tolist() == ["", "", ""]


@pytest.mark.parametrize("write", WRITERS)
def test_unsorted_rows_are_accepted_in_their_order(tmp_path: Path, write: Writer) -> None:
    backwards = GOOD["prices"].iloc[::-1].reset_index(drop=True)
    assert_frame_equal(read_table(write(tmp_path, backwards), PRICES), backwards)


@pytest.mark.parametrize("write", WRITERS)
def test_extra_columns_are_dropped_and_the_order_is_the_schemas(tmp_path: Path, write: Writer) -> None:
    wider = GOOD["prices"].assign(volume=7, note="x")[["volume", "adj_close", "note", "ticker", "date"]]
    assert_frame_equal(read_table(write(tmp_path, wider), PRICES), GOOD["prices"])


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(GOOD["prices"].to_csv(index=False), encoding="utf-8-sig")
    assert_frame_equal(read_table(tmp_path / "p.csv", PRICES), GOOD["prices"])


@pytest.mark.parametrize(
    "text",
    ["(the Company) sells engines", '"Quoted" words', "$5 billion of sales", "\u2022 engines", "\n\n1. Business"],
)
def test_a_text_may_begin_with_a_sign(tmp_path: Path, text: str) -> None:
    frame = GOOD["filings"].assign(text=["word", text, "word"])
    assert read_table(as_parquet(tmp_path, frame), FILINGS)["text"][1] == text.strip()


# Days


@pytest.mark.parametrize(
    "written",
    [
        "2012-01-05",
        "20120105",
        "2012-01-05 16:00",
        "2012-01-05T23:59:59.999",
        "2012-01-05T00:00:00Z",
        "2012-01-05 23:30:00-05:00",
    ],
)
def test_a_day_is_the_day_as_written_whatever_the_time_and_zone(tmp_path: Path, written: str) -> None:
    frame = GOOD["prices"].assign(date=["2012-01-03", "2012-01-03", written])
    assert read_table(as_csv(tmp_path, frame), PRICES)["date"][2] == pd.Timestamp("2012-01-05")


def test_typed_times_are_days_too(tmp_path: Path) -> None:
    frame = GOOD["prices"].assign(date=GOOD["prices"]["date"] + pd.Timedelta(hours=16))
    assert_frame_equal(read_table(as_parquet(tmp_path, frame), PRICES), GOOD["prices"])


def test_zones_may_differ_within_a_csv_as_they_do_over_a_year_in_new_york(tmp_path: Path) -> None:
    days = pd.date_range("2012-01-03", "2012-12-28", tz="America/New_York")
    frame = pd.DataFrame({"date": days, "ticker": "A", "adj_close": 1.0})
    for write in WRITERS:
        assert read_table(write(tmp_path, frame), PRICES)["date"].tolist() == days.tz_localize(None).tolist()


def test_two_prices_on_one_day_are_two_prices_at_whatever_time(tmp_path: Path) -> None:
    frame = GOOD["prices"].assign(date=["2012-01-03 10:00", "2012-01-03 10:00", "2012-01-03 16:00"])
    message = refusal(as_csv(tmp_path, frame), PRICES)
    assert "ticker 'A' has more than one price on 2012-01-03 (row 3)" in message


@pytest.mark.parametrize(
    "bad",
    [
        "2012-02-30",
        "2012-13-01",
        "soon",
        "now",
        "today",
        "5",
        "2012",
        "2012-01",
        "02/03/2012",
        "9999-12-31",
        "1600-01-01",
        "NaT",
    ],
)
def test_what_is_no_unmistakable_day_is_refused(tmp_path: Path, bad: str) -> None:
    message = refusal(as_csv(tmp_path, with_bad("prices", "date", bad)), PRICES)
    assert f"column 'date' holds {bad!r} (row 2)" in message
    assert "write 2012-02-28" in message


@pytest.mark.parametrize("write", WRITERS)
def test_a_day_that_has_not_come_is_refused(tmp_path: Path, write: Writer) -> None:
    later = pd.Timestamp.now().normalize() + pd.Timedelta(days=3)
    message = refusal(write(tmp_path, GOOD["prices"].assign(date=[pd.Timestamp("2012-01-03"), later, later])), PRICES)
    assert f"column 'date' holds '{later:%Y-%m-%d}' (row 2) and 1 more (row 3): it lies in the future" in message
    today = pd.Timestamp.now().normalize()
    read_table(write(tmp_path, GOOD["prices"].assign(date=[today, today, today - pd.Timedelta(days=1)])), PRICES)


def test_days_of_different_exchanges_in_one_table_are_refused(tmp_path: Path) -> None:
    written = ["2012-01-03T16:00:00-05:00", "2012-07-03T16:00:00-04:00", "2012-01-04T08:00:00Z"]
    message = refusal(as_csv(tmp_path, GOOD["prices"].assign(date=written)), PRICES)
    assert "column 'date' holds '2012-01-04T08:00:00Z' (row 3): other rows are in another time zone" in message
    stamps = [pd.Timestamp(day) for day in written]
    with pytest.raises(DataError, match="other rows are in another time zone"):
        check_table(GOOD["prices"].assign(date=pd.Series(stamps, dtype=object)), PRICES, "here")


def test_dates_given_as_whole_numbers_are_the_same_in_both_formats(tmp_path: Path) -> None:
    frame = GOOD["prices"].assign(date=[20120103, 20120103, 20120104])
    for write in WRITERS:
        assert_frame_equal(read_table(write(tmp_path, frame), PRICES), GOOD["prices"])


def test_numbers_that_are_no_dates_are_not_nanoseconds_since_1970(tmp_path: Path) -> None:
    frame = GOOD["prices"].assign(date=[15342, 15342, 15343])
    assert "column 'date' holds '15342' (row 1)" in refusal(as_parquet(tmp_path, frame), PRICES)


def test_typed_dates_out_of_range_are_refused(tmp_path: Path) -> None:
    frame = GOOD["prices"].assign(date=np.array(["2012-01-03", "9999-12-31", "1500-01-01"], "datetime64[s]"))
    assert "column 'date' holds '9999-12-31' (row 2) and 1 more (row 3)" in refusal(as_parquet(tmp_path, frame), PRICES)


def test_date_objects_are_days(tmp_path: Path) -> None:
    frame = GOOD["prices"].assign(date=[d.date() for d in GOOD["prices"]["date"]])
    assert_frame_equal(read_table(as_parquet(tmp_path, frame), PRICES), GOOD["prices"])


# Bad files


def test_a_missing_file_names_the_columns_it_should_have(tmp_path: Path) -> None:
    message = refusal(tmp_path / "no.csv", PRICES)
    assert "no file" in message
    assert "date, ticker, adj_close" in message


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert "no file" in refusal(tmp_path, PRICES)


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.parquet"])
@pytest.mark.parametrize("content", [b"", bytes(range(256)) * 5, b"\x00" * 100], ids=["empty", "binary", "zeros"])
def test_an_empty_file_and_binary_rubbish_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    message = refusal(tmp_path / name, PRICES)
    assert "give a parquet or CSV file" in message or "column 'date' is missing; prices needs date" in message


@pytest.mark.parametrize("damage", ["truncated", "corrupt"])
def test_a_damaged_gzip_file_is_refused(tmp_path: Path, damage: str) -> None:
    packed = bytearray(gzip.compress(b"date,ticker,adj_close\n" + b"2012-01-03,A,1\n" * 2000))
    if damage == "truncated":
        packed = packed[: len(packed) // 2]
    else:
        packed[20:40] = b"\x00" * 20
    (tmp_path / "p.csv.gz").write_bytes(packed)
    assert "cannot read" in refusal(tmp_path / "p.csv.gz", PRICES)


def test_a_truncated_parquet_file_is_refused(tmp_path: Path) -> None:
    path = as_parquet(tmp_path, GOOD["prices"])
    path.write_bytes(path.read_bytes()[:-20])
    assert "cannot read" in refusal(path, PRICES)


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("name", GOOD)
def test_a_table_of_only_a_header_is_refused(tmp_path: Path, name: str, write: Writer) -> None:
    assert "the table has no rows" in refusal(write(tmp_path, GOOD[name].iloc[:0]), SCHEMAS[name])


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(("name", "column"), [(name, column) for name, frame in GOOD.items() for column in frame])
def test_a_missing_column_is_named_with_what_is_needed(tmp_path: Path, name: str, column: str, write: Writer) -> None:
    message = refusal(write(tmp_path, GOOD[name].drop(columns=column)), SCHEMAS[name])
    assert f"column {column!r} is missing" in message
    assert f"{name} needs {', '.join(GOOD[name])}" in message


def test_the_columns_of_a_wide_table_are_not_listed_to_the_last(tmp_path: Path) -> None:
    wide = pd.DataFrame(1.0, index=[0], columns=["date", *(f"T{i}" for i in range(500))])
    message = refusal(as_csv(tmp_path, wide), PRICES)
    assert "column 'ticker' is missing" in message
    assert "T10 and 489 more" in message


def test_a_line_break_in_a_column_name_does_not_break_the_sentence(tmp_path: Path) -> None:
    assert "column 'date' is missing" in refusal(
        as_csv(tmp_path, GOOD["prices"].rename(columns={"date": "da\nte"})), PRICES
    )


def test_a_column_that_stands_twice_is_refused() -> None:
    doubled = pd.concat([GOOD["prices"], GOOD["prices"][["ticker"]]], axis=1)
    with pytest.raises(DataError, match=r"^here: column 'ticker' stands 2 times: keep one$"):
        check_table(doubled, PRICES, "here")


# Bad values


@pytest.mark.parametrize(("name", "column"), REQUIRED)
@pytest.mark.parametrize("blank", ["", "  "], ids=["empty", "spaces"])
def test_a_missing_value_in_csv_is_refused(tmp_path: Path, name: str, column: str, blank: str) -> None:
    message = refusal(as_csv(tmp_path, with_bad(name, column, blank)), SCHEMAS[name])
    assert f"column {column!r} has no value (row 2) and 1 more (row 3): fill it or remove the row" in message


@pytest.mark.parametrize(("name", "column"), REQUIRED)
def test_a_missing_value_in_parquet_is_refused(tmp_path: Path, name: str, column: str) -> None:
    frame = with_bad(name, column, None).infer_objects()
    message = refusal(as_parquet(tmp_path, frame), SCHEMAS[name])
    assert f"column {column!r} has no value (row 2) and 1 more (row 3): fill it or remove the row" in message


@pytest.mark.parametrize(
    ("name", "column", "bad", "rule"),
    [
        ("prices", "adj_close", "0.0", "it must be positive"),
        ("prices", "adj_close", "-1.5", "it must be positive"),
        ("prices", "adj_close", "inf", "it must be a finite number"),
        ("prices", "adj_close", "1e400", "it must be a finite number"),
        ("prices", "adj_close", "nan", "it must be a number"),
        ("prices", "adj_close", "dear", "it must be a number"),
        ("prices", "adj_close", "1,5", "it must be a number"),
        ("prices", "adj_close", "TRUE", "it must be a number"),
        ("companies", "cik", "0", "it must be positive"),
        ("companies", "cik", "-4", "it must be positive"),
        ("companies", "cik", "x", "it must be a number"),
        ("companies", "cik", "1.5", "it must be a whole number"),
        ("companies", "cik", "inf", "it must be a whole number"),
        ("companies", "cik", "99999999999999999999", "it must be a whole number"),
        ("filings", "fiscal_year", "2011.5", "it must be a whole number"),
        ("filings", "fiscal_year", "11", "it is out of range"),
        ("filings", "fiscal_year", "last", "it must be a number"),
        ("companies", "sic", "100", "a SIC code has four digits"),
        ("companies", "sic", "3571.0", "a SIC code has four digits"),
        ("companies", "sic", "35710", "a SIC code has four digits"),
        ("companies", "sic", "35A1", "a SIC code has four digits"),
        ("companies", "sic", "\uff13\uff15\uff17\uff11", "a SIC code has four digits"),
        ("companies", "gics", "4520203", "a GICS code eight, or leave it empty"),
        ("companies", "gics", "452020300", "a GICS code eight, or leave it empty"),
        ("companies", "gics", "none", "a GICS code eight, or leave it empty"),
    ],
)
def test_a_value_out_of_bounds_is_named_with_column_row_and_rule(
    tmp_path: Path, name: str, column: str, bad: str, rule: str
) -> None:
    for write in (as_csv, as_parquet):
        message = refusal(write(tmp_path, with_bad(name, column, bad).astype({column: str})), SCHEMAS[name])
        assert f"column {column!r} holds '" in message
        assert "(row 2)" in message
        assert rule in message
        shown = "inf" if bad == "1e400" else bad
        assert repr(shown) in message


@pytest.mark.parametrize(
    ("bad", "rule"), [(0.0, "positive"), (-2.0, "positive"), (np.inf, "finite"), (-np.inf, "positive")]
)
def test_bad_typed_prices_are_refused_like_written_ones(tmp_path: Path, bad: float, rule: str) -> None:
    frame = GOOD["prices"].assign(adj_close=[1.0, bad, bad])
    message = refusal(as_parquet(tmp_path, frame), PRICES)
    assert f"column 'adj_close' holds '{bad}' (row 2)" in message
    assert rule in message


def test_truth_values_are_no_prices(tmp_path: Path) -> None:
    frame = GOOD["prices"].assign(adj_close=[True, True, False])
    assert "column 'adj_close' holds 'True' (row 1) and 2 more (rows 2, 3): it must be a number" in refusal(
        as_parquet(tmp_path, frame), PRICES
    )


def test_a_typed_cik_with_a_fraction_is_not_cut_off(tmp_path: Path) -> None:
    frame = GOOD["companies"].assign(cik=[11.0, 22.5, 33.0])
    assert "column 'cik' holds '22.5' (row 2): it must be a whole number" in refusal(
        as_parquet(tmp_path, frame), COMPANIES
    )


@pytest.mark.parametrize("wordless", ["...", "- - -", "?!", "___"])
def test_a_wordless_text_is_refused(tmp_path: Path, wordless: str) -> None:
    for write in WRITERS:
        message = refusal(write(tmp_path, with_bad("filings", "text", wordless)), FILINGS)
        assert "column 'text' holds no word (row 2) and 1 more (row 3): remove the filing or give its text" in message


@pytest.mark.parametrize("write", WRITERS)
def test_a_second_price_of_a_ticker_on_one_day_names_ticker_day_and_the_repeating_row(
    tmp_path: Path, write: Writer
) -> None:
    again = GOOD["prices"].iloc[[1]].assign(adj_close=9.0)
    frame = pd.concat([GOOD["prices"], again, again], ignore_index=True)
    message = refusal(write(tmp_path, frame), PRICES)
    assert "ticker 'B' has more than one price on 2012-01-03 (row 4) and 1 more (row 5): keep one" in message


def test_many_bad_rows_are_counted_and_the_first_named(tmp_path: Path) -> None:
    frame = pd.concat([GOOD["prices"]] * 4, ignore_index=True).assign(adj_close=[1.0, *[-1.0] * 11])
    assert "(row 2) and 10 more (rows 3, 4, 5, ...): it must be positive" in refusal(as_csv(tmp_path, frame), PRICES)


def test_everything_wrong_is_listed_and_what_is_right_is_left() -> None:
    frame = pd.DataFrame(
        {
            "date": ["2012-01-03", "2012-01-03", "soon", "2012-01-05", "2012-01-06", "2012-01-06"],
            "ticker": ["A", "A", "A", "A", "A", "B"],
            "adj_close": ["1", "2", "3", "dear", "-4", "6"],
        }
    )
    usable, problems = examine(frame, PRICES)
    assert [problem.rows for problem in problems] == [(2,), (3,), (4,), (1,)]
    assert usable.to_dict("list") == {
        "date": [pd.Timestamp("2012-01-03"), pd.Timestamp("2012-01-06")],
        "ticker": ["A", "B"],
        "adj_close": [1.0, 6.0],
    }


@pytest.mark.parametrize(
    ("schema", "frame", "words"),
    [
        (RETURNS, {"date": ["2012-01-31"], "ticker": ["A"], "return": ["-1"]}, "a simple return is above -1"),
        (
            RETURNS,
            {"date": ["2012-01-31"] * 2, "ticker": ["A"] * 2, "return": ["", "0.1"]},
            "'A' has more than one return on 2012-01-31 (row 2)",
        ),
        (
            CLASSIFICATIONS,
            {"cik": [1, 1], "scheme": ["sic", "sic"], "code": ["1000", "2000"], "label": ["", ""]},
            "cik '1', scheme 'sic' stands more than once (row 2)",
        ),
        (
            PARTITIONS,
            {"method": ["m"], "year": [15], "cluster": ["1"], "filing_id": ["f"]},
            "column 'year' holds '15' (row 1): it is out of range",
        ),
        (
            PAIRS,
            {name: ["1"] for name in PAIRS.columns} | {"p_value": ["1.5"], "formation_start": ["2012-01-01"]},
            "column 'formation_end' holds '1' (row 1): it must be a date",
        ),
        (factors_schema(["SMB"]), {"date": ["2012-01-31"], "SMB": [""]}, "column 'SMB' has no value (row 1)"),
        (factors_schema(["SMB"]), {"date": ["2012-01-31"] * 2, "SMB": [1, 2]}, "'date' repeats '2012-01-31' (row 2)"),
    ],
)
def test_every_other_table_is_checked_too(
    schema: pa.DataFrameSchema, frame: dict[str, list[object]], words: str
) -> None:
    with pytest.raises(DataError) as caught:
        check_table(pd.DataFrame(frame), schema, "here")
    assert words in str(caught.value)


def test_an_empty_return_is_none_and_no_error() -> None:
    table = pd.DataFrame({"date": ["2012-01-31"] * 3, "ticker": ["A", "B", "C"], "return": ["", "NA", "-0.5"]})
    found = check_table(table, RETURNS, "here")["return"]
    assert found.isna().tolist() == [True, True, False]


def test_long_and_wide_are_one_panel_and_bad_values_name_the_tickers_column() -> None:
    wide = pd.DataFrame({"day": ["2012-01-04", "2012-01-03"], "B": ["2", ""], "A": ["1", "3"]})
    long = pd.DataFrame(
        {"date": ["2012-01-04", "2012-01-04", "2012-01-03"], "ticker": ["B", "A", "A"], "adj_close": [2.0, 1.0, 3.0]}
    )
    first, second = panel(wide, PRICES, "here"), panel(long, PRICES, "here")
    assert_frame_equal(first, second, check_freq=False)
    assert first.columns.tolist() == ["A", "B"]
    assert first["A"].tolist() == [3.0, 1.0]
    with pytest.raises(DataError, match=r"^here: column 'B' holds '-2.0' \(row 1\): it must be positive$"):
        panel(wide.assign(B=["-2", "1"]), PRICES, "here")
    with pytest.raises(DataError, match=r"^here: column 'date' repeats '2012-01-04' \(row 2\)"):
        panel(wide.assign(day="2012-01-04"), PRICES, "here")
    with pytest.raises(DataError, match="no column of prices beside the date"):
        panel(wide[["day"]], PRICES, "here")


@pytest.mark.parametrize(("name", "column"), [("filings", "filing_id"), ("companies", "ticker")])
def test_a_repeated_key_names_the_repeating_row(tmp_path: Path, name: str, column: str) -> None:
    first = GOOD[name][column][0]
    for write in WRITERS:
        message = refusal(write(tmp_path, with_bad(name, column, first)), SCHEMAS[name])
        assert f"column {column!r} repeats {first!r} (row 2) and 1 more (row 3): each may stand once" in message


def test_several_filings_and_several_lines_of_one_company_are_fine(tmp_path: Path) -> None:
    assert len(read_table(as_csv(tmp_path, GOOD["filings"].assign(cik=11)), FILINGS)) == 3
    assert len(read_table(as_csv(tmp_path, GOOD["companies"].assign(cik=11)), COMPANIES)) == 3


def test_a_trailing_comma_does_not_shift_the_columns_silently(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("date,ticker,adj_close\n2012-01-03,A,1,\n2012-01-04,A,2,\n")
    assert "Expected 3 fields in line 2, saw 4" in refusal(tmp_path / "p.csv", PRICES)


def test_a_row_that_is_too_short_lacks_a_value(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("date,ticker,adj_close\n2012-01-03,A,1\n2012-01-04,A\n")
    assert "column 'adj_close' has no value (row 2)" in refusal(tmp_path / "p.csv", PRICES)


def test_a_long_value_is_shortened_in_the_sentence(tmp_path: Path) -> None:
    message = refusal(as_csv(tmp_path, with_bad("filings", "filed", "It sells engines.\n" * 5000)), FILINGS)
    assert "column 'filed' holds 'It sells engines." in message
    assert len(message) < len(str(tmp_path)) + 200


def test_columns_stored_twice_in_parquet_are_refused(tmp_path: Path) -> None:
    table = pyarrow.Table.from_pandas(GOOD["prices"])
    table = table.append_column("ticker", table.column("ticker"))
    pyarrow.parquet.write_table(table, tmp_path / "p.parquet")
    refusal(tmp_path / "p.parquet", PRICES)


def test_checking_leaves_the_callers_table_alone() -> None:
    frame = GOOD["companies"].assign(sic=["0100", None, " 3571 "], cik=["11", "22", "33"])
    before = frame.copy(deep=True)
    check_table(frame, COMPANIES, "here")
    assert_frame_equal(frame, before)
