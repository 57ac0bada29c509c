"""The one table type, in each form in which it is read."""

import csv
import io
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ftwt.tables import (
    MINUS,
    NOTHING,
    Column,
    Table,
    count,
    fixed,
    metric,
    of_text,
    percent,
    points,
    signed,
)

TABLE = Table(
    (
        Column("name", "layer"),
        Column("macs", "MACs", count),
        Column("share", "share", percent(1, " %")),
    ),
    (
        {"name": "conv1", "macs": 1234, "share": 0.25},
        {"name": "a|b <i>[red]", "macs": None, "share": -0.5},
    ),
    total={"name": "all", "macs": 1234},
)
ROWS = (
    ("conv1", "1,234", "25.0 %"),
    ("a|b <i>[red]", NOTHING, "\N{MINUS SIGN}50.0 %"),
    ("all", "1,234", ""),
)


def test_cells_and_which_columns_are_numbers():
    assert TABLE.cells() == ROWS
    assert TABLE.numeric() == (False, True, True)


def test_text_is_aligned_numbers_to_the_right():
    assert str(TABLE).splitlines() == [
        "layer          MACs    share",
        "conv1         1,234   25.0 %",
        f"a|b <i>[red]      {NOTHING}  \N{MINUS SIGN}50.0 %",
        "all           1,234",
    ]


def test_rich_prints_cells_as_they_are():
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(TABLE.rich("costs"))
    text = console.export_text()
    for part in ("costs", *TABLE.labels, *(cell for row in ROWS for cell in row)):
        assert part in text


def test_markdown():
    assert TABLE.markdown().splitlines() == [
        "| layer | MACs | share |",
        "|---|---|---|",
        "| conv1 | 1,234 | 25.0 % |",
        f"| a\\|b <i>[red] | {NOTHING} | \N{MINUS SIGN}50.0 % |",
        "| all | 1,234 |  |",
    ]


def test_csv_has_the_values_themselves():
    read = list(csv.DictReader(io.StringIO(TABLE.csv())))
    assert [row["macs"] for row in read] == ["1234", ""]
    assert [row["share"] for row in read] == ["0.25", "-0.5"]


class Cells(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.rows, self.classes = [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.classes.append(dict(attrs).get("class"))

    def handle_data(self, data):
        if self.rows and data.strip():
            self.rows[-1][-1] += data


@given(st.lists(st.tuples(*[st.text(st.characters(min_codepoint=33, max_codepoint=126))] * 2)))
def test_html_holds_every_cell_whatever_is_in_it(rows):
    found = Cells(of_text(("one", "two"), rows).html())
    assert found.rows == [["one", "two"], *map(list, rows)]


def test_numbers():
    assert points(-0.0123) == "\N{MINUS SIGN}1.23"
    assert fixed(2)(-1) == "\N{MINUS SIGN}1.00"
    assert count(12345.6) == "12,346"


def test_rows_are_objects_with_attributes_too():
    class Row:
        name, macs, share = "x", 1, None

    assert Table(TABLE.columns, (Row(),)).cells() == (("x", "1", NOTHING),)


def test_ragged_rows_are_refused():
    with pytest.raises(Exception, match="a row has 1 cells"):
        of_text(("a", "b"), (("1",),))


@given(st.floats(-1e9, 1e9), st.integers(0, 3))
def test_no_number_reads_as_a_negative_zero_or_has_a_hyphen(number, digits):
    texts = (
        percent(digits, " %")(number), points(number, digits), signed(number, digits),
        count(number), fixed(digits)(number), metric("top5", number), metric("own", number),
    )  # fmt: skip
    for text in texts:
        assert not text.startswith("-"), text
        value = float(text.removesuffix(" %").replace(",", "").replace(MINUS, "-"))
        assert text[0] not in f"{MINUS}+" or value != 0
        assert value * number >= 0
