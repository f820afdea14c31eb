"""The page of the language study: what was extracted, how it steers beside random directions, how it is graded, what that shows.

1. Every number is one of the runs, of the quality reports or of the graders' measured errors; nothing is generated here.
2. Each direction's verdict is the sweep's own. Where it calls nothing real, the page says first that the run shows no effect.
3. What models wrote is escaped. The same findings give the same bytes.
4. Beside the page lie the reports of its runs.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from steering.files import write_file

from ..studies.language.run import Finding
from ..studies.language.spec import LanguageSpec
from .evidence import Unavailable, gather
from .figures import dose_response
from .forms import in_markdown, to_html, to_markdown
from .language_tables import (
    Written,
    arm_table,
    cell_table,
    error_table,
    examples,
    grader_words,
    overview,
    probe_table,
    quality_table,
    shown,
)
from .page import POLICY, _part
from .tables import Table
from .writing import write_report

LIMITS = (
    "One model was steered, on few prompts, once per prompt; another model, other prompts or longer texts may give something else.",
    "The prompts are open beginnings: a continuation has no right wording, and a grader sees only one side of it. A text can be French to "
    "the grader and nonsense to a reader; the texts above, repeated 3-grams and log-probability say how much of an effect is damage.",
    "The graders' errors were measured on clean sentences. On texts that an edit has broken, or that mix languages, they are not known.",
    "Nothing here is evidence about reasoning in large models: a model that rarely gets a one-step problem right has little to steer.",
)  # fmt: skip


@dataclass(frozen=True)
class _Figure:
    svg: str
    words: str


Block = str | Table | Written | tuple[str, str] | _Figure
"""A paragraph, a table, texts, a link `(text, target)`, or a figure."""


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    name: str
    title: str
    blocks: tuple[Block, ...]


def write_language(findings: Sequence[Finding], spec: LanguageSpec, command: str, folder: Path | str) -> list[Path]:
    """Write `index.html`, `index.md` and, under `runs/`, the report of every run; returns their paths, the page first."""
    place = Path(folder)
    sections = [_first(findings, spec), *map(_direction, findings), _probes(findings), _end(command)]
    title = f"Steering {spec.model}: language, sentiment, steps"
    written = [place / "index.html", place / "index.md"]
    write_file(written[0], _as_html(title, sections).encode())
    write_file(written[1], _as_markdown(title, sections).encode())
    for finding in findings:
        for run in (finding.development, finding.test):
            write_report(run, place / "runs" / run.manifest.run_id, ("html",))
            written.append(place / "runs" / run.manifest.run_id / "report.html")
    return written


def _first(findings: Sequence[Finding], spec: LanguageSpec) -> Section:
    return Section(
        "results",
        "Results",
        (
            f"{len(findings)} directions were extracted from texts in {spec.model} and added to its residual stream while it writes. Layer "
            f"and dose were chosen on {spec.development} development prompts, beside {spec.random} random directions of equal edit size at "
            f"every cell; the table has the chosen cell on prompts that chose nothing.",
            overview(findings),
        ),
    )  # fmt: skip


def _direction(finding: Finding) -> Section:
    direction, development, test = finding.direction, finding.development, finding.test
    blocks: list[Block] = [
        shown(finding),
        f"Verdict of the sweep: {finding.sweep.verdict.sentence}",
        f"Extracted as the mean of {direction.contrast}, read "
        f"{'over all tokens' if direction.read == 'all' else 'at the last token'}, attention sinks left out; measured on held-out pairs.",
        quality_table(finding),
        f"Graded by {grader_words(direction)}: right means that {direction.graded}."
        + ("" if finding.error else " It compares final answers as numbers; no error of it was measured here."),
    ]
    if finding.error:
        blocks.append(error_table(finding))
    try:
        drawing = dose_response(gather(development))
        blocks.append(_Figure(replace(drawing, name=f"dose-{direction.name}").inline(), drawing.words))
    except Unavailable as reason:
        blocks.append(f"No figure of doses: {reason}.")
    blocks += [cell_table(finding), arm_table(finding), *examples(finding)]
    for what, run in (("development", development), ("test", test)):
        run_id = run.manifest.run_id
        blocks.append((f"Report of the {what} run {run_id}", f"runs/{run_id}/report.html"))
    return Section(direction.name, direction.title, tuple(blocks))


def _probes(findings: Sequence[Finding]) -> Section:
    return Section(
        "probes",
        "Probes",
        (
            "Can the same be read off one token? Logistic probes at a sentence's last token, on sentences that no vector comes from. "
            "That something can be read does not say that adding it steers.",
            probe_table(findings),
        ),
    )  # fmt: skip


def _end(command: str) -> Section:
    return Section("limits", "What this does not show", (*LIMITS, f"Made by `{command}`; the same command resumes."))


def _as_html(title: str, sections: Iterable[Section]) -> str:
    sections = list(sections)
    links = "".join(f'<a href="#{one.name}">{html.escape(one.title)}</a>' for one in sections)
    body = "".join(
        f'<section id="{one.name}"><h2>{html.escape(one.title)}</h2>{"".join(map(_html, one.blocks))}</section>'
        for one in sections
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><title>{html.escape(title)}</title>'
        f"<style>{_part('report.css')}</style></head><body><main><h1>{html.escape(title)}</h1><nav>{links}</nav>{body}</main>"
        f"<script>{_part('report.js')}</script></body></html>\n"
    )


def _html(block: Block) -> str:
    if isinstance(block, Table):
        return to_html(block)
    if isinstance(block, _Figure):
        return f'<div class="drawings"><figure>{block.svg}<figcaption>{html.escape(block.words)}</figcaption></figure></div>'
    if isinstance(block, Written):
        lines = "".join(f"<li><b>{html.escape(label)}</b>: {html.escape(text)}</li>" for label, text in block.texts)
        return f'<h3>{html.escape(block.title)}</h3><p class="quiet">{html.escape(block.prompt)}</p><ul class="said">{lines}</ul>'
    if isinstance(block, tuple):
        return f'<p><a href="{html.escape(block[1])}">{html.escape(block[0])}</a></p>'
    return f"<p>{html.escape(block)}</p>"


def _as_markdown(title: str, sections: Iterable[Section]) -> str:
    parts = [f"# {in_markdown(title)}", ""]
    for one in sections:
        parts += [f"## {in_markdown(one.title)}", ""]
        for block in one.blocks:
            parts += [_markdown(block), ""]
    return "\n".join(parts).rstrip() + "\n"


def _markdown(block: Block) -> str:
    if isinstance(block, Table):
        return to_markdown(block).rstrip()
    if isinstance(block, _Figure):
        return f"Figure (in index.html): {in_markdown(block.words)}"
    if isinstance(block, Written):
        lines = [f"* **{in_markdown(label)}**: {in_markdown(text)}" for label, text in block.texts]
        return "\n".join([f"### {in_markdown(block.title)}", "", in_markdown(block.prompt), "", *lines])
    if isinstance(block, tuple):
        return f"[{in_markdown(block[0])}]({block[1]})"
    return in_markdown(block)
