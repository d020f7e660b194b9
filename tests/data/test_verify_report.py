"""What a person sees of a check."""

import collections
import csv
import io

import numpy as np
import pytest
from rich.console import Console

from efficientnetv2_tf.data.verify_report import Finding, ProgressLine, Report, print_report, shares, write_findings


def a_report(findings=(), shapes=None, counts=((10, 2, 4), (0, 1, 0))):
    return Report(
        name="some [bold]data",
        class_names=("a", "b [red]", "c"),
        findings=list(findings),
        counts=dict(zip(("train", "eval"), map(np.array, counts), strict=True)),
        shapes=collections.Counter(shapes or {("JPEG", "RGB", 400, 300): 3, ("PNG", "L", 30, 60): 1}),
        samples={},
    )


def printed(report, width=200):
    text = io.StringIO()
    print_report(report, Console(file=text, width=width))
    return text.getvalue()


def cells(text):
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]


def bad(number, reason="cut"):
    return Finding(True, reason, "train", "a", f"/data/{number:03d}.jpg", "detail", number)


def test_tables_of_numbers():
    rows = cells(printed(a_report()))
    assert ["train", "16", "2 (b [red])", "4", "10 (a)", "5.0"] in rows
    assert ["eval", "1", "0 (a)", "0", "1 (b [red])", "classes without any: 2"] in rows
    assert ["width, px", "30", "400", "400"] in rows
    assert ["height, px", "60", "300", "300"] in rows
    assert ["width / height", "0.50", "1.33", "1.33"] in rows
    assert ["format", "JPEG", "3", "75.0%"] in rows and ["mode", "L", "1", "25.0%"] in rows
    assert printed(a_report()).endswith("some [bold]data: 4 good images, 0 bad.\n")


def test_the_first_bad_ones_and_how_many_of_each_kind():
    findings = [*[bad(number) for number in range(30)], *[bad(number, "empty") for number in range(30, 35)]]
    text = printed(a_report(findings))
    rows = cells(text)
    assert "the first 20 of 35 bad" in text
    assert ["cut", "/data/019.jpg", "detail"] in rows and "/data/020.jpg" not in text
    assert rows.index(["cut", "30 in all", ""]) < rows.index(["empty", "5 in all", ""])
    assert "35 bad." in text
    assert "in all" not in printed(a_report(findings[:20]))


def test_notes_are_counted():
    notes = [Finding(False, "copy", "eval", "a", f"{number}.jpg", f"of {number}") for number in range(1500)]
    rows = cells(printed(a_report([*notes, Finding(False, "wrong ending", "eval", "a", "x.jpg", "a PNG")])))
    assert ["copy", "1,500", "0.jpg", "of 0"] in rows and ["wrong ending", "1", "x.jpg", "a PNG"] in rows


def test_names_cannot_do_harm():
    name = "/data/[red]a\n\x1b[2J\udcff.jpg"
    text = printed(a_report([Finding(True, "cut", "train", "a", name, "detail", 0)]))
    assert r"/data/[red]a\n\x1b[2J\udcff.jpg" in text
    assert "\x1b" not in text


def test_nothing_good(tmp_path):
    report = a_report([bad(0)], counts=((0, 0, 0), (0, 0, 0)))
    report.shapes.clear()
    assert printed(report).endswith("0 good images, 1 bad.\n")


def test_file_of_findings(tmp_path):
    note = Finding(False, "copy", "eval", "b, c", 'a "b",\nc\udcff.jpg', "x", 2**40)
    folder = Finding(True, "class folder empty", "train", "c", "/data/c", "")
    path = tmp_path / "verify_data.csv"
    path.write_text("old")
    write_findings(a_report([note, bad(7), folder]), path)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["verdict", "reason", "split", "key", "class", "where", "detail"],
        ["bad", "cut", "train", "7", "a", "/data/007.jpg", "detail"],
        ["bad", "class folder empty", "train", "", "c", "/data/c", ""],
        ["note", "copy", "eval", str(2**40), "b, c", 'a "b",\nc\\udcff.jpg', "x"],
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["verify_data.csv"]


def test_shares():
    shapes = collections.Counter({("JPEG", "L", 1, 2): 1, ("PNG", "RGB", 1, 2): 5, ("JPEG", "RGB", 3, 3): 3})
    assert shares(shapes, 0) == [("PNG", 5), ("JPEG", 4)]
    assert shares(shapes, 1) == [("RGB", 8), ("L", 1)]


@pytest.mark.parametrize("line_every, lines", [(0.0, 3), (1e9, 0)])
def test_progress_without_a_terminal(line_every, lines):
    text = io.StringIO()
    with ProgressLine(Console(file=text, width=200), 3000, line_every) as progress:
        for number in (0, 1, 1):
            progress.advance(number)
    shown = text.getvalue().splitlines()
    assert len(shown) == lines
    assert "\x1b" not in text.getvalue() and "\r" not in text.getvalue()
    if lines:
        assert shown[2].startswith("checked 3 of 3,000 images · 1 bad · ")
        assert "images/s" in shown[2] and shown[2].endswith(" left")


def test_progress_on_a_terminal():
    text = io.StringIO()
    with ProgressLine(Console(file=text, width=200, force_terminal=True), 4) as progress:
        for _ in range(4):
            progress.advance(2)
    assert "4/4" in text.getvalue() and "2 bad" in text.getvalue()
    assert "\nchecked" not in text.getvalue()
