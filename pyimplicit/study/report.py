"""What a study leaves for people: tables, figures, and a report in Markdown that says what it is worth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pyimplicit.evaluation import write_scores_csv
from pyimplicit.study.config import StudyConfig
from pyimplicit.study.files import write_text
from pyimplicit.study.records import Record
from pyimplicit.study.tables import (
    StudyTable,
    build_table,
    csv_d_scores,
    csv_table,
    markdown_table,
    shape_rows,
    timing_table,
)

if TYPE_CHECKING:
    from pyimplicit.study.paper_figures import PaperFigure
    from pyimplicit.study.reconstructions import Reconstructions

REPORT_FILE = "report.md"


def write_outputs(folder: Path, config: StudyConfig, records: Sequence[Record], shapes: Reconstructions) -> Path:
    """Write tables, figures and the report of a study into its folder, last of all the report as a page.

    Args:
        folder: The study's folder.
        config: The study.
        records: Its records, at least one.
        shapes: Its test shapes and reconstructions.

    Returns:
        The path of the page, `report.html`.

    Raises:
        ExtraError: plotly or fast-simplification is not installed; everything but the page has been written.
    """
    from pyimplicit.study.page import write_page
    from pyimplicit.study.paper_figures import draw_figures

    table = build_table(records)
    write_text(folder / "table.md", markdown_table(table))
    write_text(folder / "table.csv", csv_table(table))
    write_text(folder / "d_score.csv", csv_d_scores(table))
    rows = shape_rows(records)
    if rows:
        write_scores_csv(folder / "shapes.csv", rows)
    write_text(folder / "timings.md", timing_table(records))
    figures = draw_figures(folder, config, records, shapes)
    write_text(folder / REPORT_FILE, _report(config, records, table, figures))
    return write_page(
        *(folder, config, records, table, figures, shapes), config_text=_yaml(config), caveats=caveats(config)
    )


def _report(config: StudyConfig, records: Sequence[Record], table: StudyTable, figures: Sequence[PaperFigure]) -> str:
    data, evaluation = config.data, config.evaluation
    failed = sum(record.failed for record in records)
    parts = [
        "# Sampling strategies: report of a study",
        f"{len(records)} runs at scale `{config.scale}`: {data.train} shapes to train on and {data.test} to test "
        f"on from `{data.source}`, seeds {', '.join(map(str, config.seeds))}. Failed runs: {failed}.",
        "## Results",
        "Lengths are in mesh units: the longest side of every shape is 1. Chamfer-L2 is half the sum of the two mean "
        "squared distances. Means over the test shapes; a test shape without a surface counts with the worst score. "
        "The best value of each network is bold. D-Score: mean relative distance to the best strategy over all "
        "networks and IoU, F-Score and Normal Consistency; 0 is always best, a failed run counts with a metric of 0, "
        "and a network on which every strategy failed is left out.",
        markdown_table(table).rstrip(),
        "## What these numbers are worth",
        "\n".join(f"- {line}" for line in caveats(config)),
    ]
    parts += ["## Figures", *(_figure(figure) for figure in figures)]
    parts += ["## Training", _training_table(records), "## Time and memory", timing_table(records).rstrip()]
    parts += [
        "Timings were taken with several runs at once. Memory is the peak of the worker process over all its runs up "
        "to this one.",
        "## To repeat it",
        "The configuration, which `pyimplicit study --config FILE --out FOLDER` reads:",
        f"```yaml\n{_yaml(config)}```",
        f"Extraction: {evaluation.resolution} cells per axis. Every score of every shape is in `shapes.csv`, every "
        "record in `records.jsonl`.",
    ]
    for title, attribute in (("Versions", "versions"), ("Machine", "machine")):
        parts.append(f"## {title}")
        for variety in _distinct([getattr(record, attribute) for record in records]):
            parts.append("\n".join(f"- {key}: {value}" for key, value in variety.items()))
    return "\n\n".join(parts) + "\n"


def _figure(figure: PaperFigure) -> str:
    number = f"{figure.name}. " if figure.name.startswith("Figure") else ""
    if figure.path is None:
        return f"{figure.name} is not shown: {figure.missing}."
    return f"**{number}{figure.caption}**\n\n![{figure.caption}](figures/{figure.path.name})"


def caveats(config: StudyConfig) -> list[str]:
    """Return what keeps the results of a study from being more than they are."""
    lines = []
    if config.recipe != "paper" or "steps" in config.training:
        lines.append(
            "Networks are narrower and trained for far fewer steps than their authors'. Differences between strategies "
            "show how fast each lets a network learn at this size; they need not hold for networks trained to the end."
        )
    if config.data.test < 50:
        lines.append(f"Test shapes: {config.data.test}. A mean of so few moves with the choice of shapes.")
    if len(config.seeds) < 3:
        lines.append(
            f"Seeds: {len(config.seeds)}. Differences no larger than the spread between seeds mean nothing, and that "
            "spread is hardly measured; add seeds before believing a small gap."
        )
    if config.data.source == "procedural":
        lines.append("Procedural cars are smoother and more alike than real ones.")
    return lines or ["Nothing was reduced against the protocol of the paper."]


def _training_table(records: Sequence[Record]) -> str:
    lines = ["| Network | Strategy | Seed | Parameters | Steps | First loss | Last loss |", "|---|---|" + "---:|" * 5]
    for record in records:
        facts = record.training
        losses = [f"{facts[key]:.4g}" if key in facts else "" for key in ("first_loss", "last_loss")]
        counts = [f"{facts[key]:,}" if key in facts else "" for key in ("parameters", "steps")]
        name = f"{record.row[0]} {record.field.upper()}, {record.density} points"
        lines.append(f"| {name} | {record.strategy} | {record.seed} | " + " | ".join([*counts, *losses]) + " |")
    return "\n".join(lines)


def _yaml(config: StudyConfig) -> str:
    import yaml  # type: ignore[import-untyped, unused-ignore]

    text: str = yaml.safe_dump(config.as_dict(), sort_keys=False, default_flow_style=None, width=100)
    return text


def _distinct(values: Sequence[dict[str, object]]) -> list[dict[str, object]]:
    distinct: list[dict[str, object]] = []
    for value in values:
        if value not in distinct:
            distinct.append(value)
    return distinct
