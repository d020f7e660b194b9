"""What a benchmark found, as tables on the console and in Markdown."""

import dataclasses


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
