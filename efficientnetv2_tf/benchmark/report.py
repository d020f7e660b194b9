"""What a benchmark found, as tables on the console and in Markdown."""

import dataclasses

_LONGEST = 500  # characters of a reason


def shortened(reason, longest=_LONGEST):
    """A reason in one line: what the process that failed wrote to stderr may be long, and its end says most."""
    text = " ".join(reason.split())
    return text if len(text) <= longest else f"{text[: longest // 2]} ... {text[-longest // 2 :]}"


@dataclasses.dataclass(frozen=True)
class Table:
    """One table of results.

    Attributes:
        title: what was measured, with the unit.
        headings: of the columns.
        rows: tuples of as many strings.
        note: a sentence below the table, or "".
    """

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def console_table(table):
    """A `rich.table.Table` of a `Table`."""
    import rich.markup
    import rich.table

    escape = rich.markup.escape
    shown = rich.table.Table(title=escape(table.title), title_justify="left", caption=escape(table.note) or None)
    shown.caption_justify = "left"
    for column, heading in enumerate(table.headings):
        shown.add_column(escape(heading), justify="right" if column and _numbers(table, column) else "left")
    for row in table.rows:
        shown.add_row(*map(escape, row))
    return shown


def _numbers(table, column):
    return any(row[column][:1].isdigit() for row in table.rows)


def markdown(content, tables, unshown=None):
    """The text of benchmark.md.

    Args:
        content: of benchmark.json.
        tables: {part: `Table`s}.
        unshown: {part: why it has none}.
    """
    machine, versions = content["machine"], content["versions"]
    memory = f", {machine['memory'] / 2**30:.0f} GiB" if machine["memory"] else ""
    lines = [
        "# Benchmark",
        "",
        f"{machine['cpu']}, {machine['cores']} cores{memory}, {machine['system']}.",
        ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
    ]
    for part, found in content["parts"].items():
        lines += ["", f"## {part}", "", f"{found['date']}, {found['seconds']:.0f} s: `{found['command']}`"]
        lines += ["", _failure(found)] if "error" in found else []
        lines += ["", f"Cannot be shown: {unshown[part]}"] if part in (unshown or {}) else []
        for table in tables.get(part, ()):
            lines += ["", *_markdown_table(table)]
    return "\n".join(lines) + "\n"


def _failure(found):
    reason = shortened(found["error"])
    if "error_date" not in found:
        return f"Failed: {reason}"
    return f"The last try, {found['error_date']}, failed; what it should have replaced is shown. {reason}"


def _markdown_table(table):
    aligned = ("---:" if column and _numbers(table, column) else "---" for column in range(len(table.headings)))
    rows = [table.headings, tuple(aligned), *table.rows]
    lines = [f"**{table.title}**", "", *("| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows)]
    return [*lines, "", table.note] if table.note else lines


def _cell(text):
    return text.replace("|", "\\|").replace("\n", " ")
