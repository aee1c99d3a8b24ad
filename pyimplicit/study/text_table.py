"""A table of texts, and the forms it is printed in: terminal, Markdown, CSV, LaTeX."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table as RichTable

# What LaTeX reads as commands, and the signs of our tables that its fonts lack.
_LATEX = {
    **{"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_"},
    **{"{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"±": r"$\pm$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "×": r"$\times$", "–": "--"},
}


@dataclass(frozen=True)
class TextTable:
    """A table as people read it.

    Args:
        name: Short name for files: "table_1".
        title: What the table shows.
        columns: Headings; the first is that of the row names.
        rows: Texts, as many in each row as there are columns.
        notes: Lines below the table: units, rules, reasons of failures.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        """Return the table in Markdown, with its title and notes.

        Example:
            >>> print(TextTable("t", "Title", ("a", "b"), (("x", "1"),)).markdown(), end="")
            **Title**
            <BLANKLINE>
            | a | b |
            |---|---:|
            | x | 1 |
        """
        lines = [f"**{self.title}**", "", "| " + " | ".join(self.columns) + " |"]
        lines.append("|---|" + "---:|" * (len(self.columns) - 1))
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in self.rows]
        if self.notes:
            lines += ["", *(f"- {note}" for note in self.notes)]
        return "\n".join(lines) + "\n"

    def csv(self) -> str:
        """Return headings and rows as CSV."""
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows([self.columns, *self.rows])
        return stream.getvalue()

    def latex(self) -> str:
        """Return a `table` environment with a `tabular`, which needs no package."""
        lines = [r"\begin{table}", r"\centering", rf"\caption{{{_latex(self.title)}}}"]
        lines += [rf"\begin{{tabular}}{{l{'r' * (len(self.columns) - 1)}}}", r"\hline"]
        lines += [" & ".join(map(_latex, self.columns)) + r" \\ \hline"]
        lines += [" & ".join(map(_latex, row)) + r" \\" for row in self.rows]
        lines += [r"\hline", r"\end{tabular}"]
        lines += [rf"\par\footnotesize {_latex(note)}" for note in self.notes]
        return "\n".join([*lines, r"\end{table}"]) + "\n"

    def _longest(self, index: int) -> str:
        return max((row[index] for row in self.rows), key=len, default="")

    def rich(self) -> RichTable:
        """Return the table for a terminal."""
        from rich.table import Table as RichTable

        shown = RichTable(title=self.title, title_justify="left", caption="\n".join(self.notes), caption_justify="left")
        for index, column in enumerate(self.columns):
            shown.add_column(column, justify="right" if index and "\n" not in self._longest(index) else "left")
        for row in self.rows:
            shown.add_row(*row, end_section=any("\n" in cell for cell in row))
        return shown


def _latex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)
