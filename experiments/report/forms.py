"""Forms of a table: HTML, Markdown, LaTeX.

1. Text of a run is escaped in every form: it can neither end a cell nor become markup.
2. LaTeX needs `booktabs` and nothing else; a character that plain LaTeX cannot set is written as its code point.
"""

from __future__ import annotations

import html
import re

from ..looks import look
from .tables import Table


def to_html(table: Table) -> str:
    """A `figure` with the table and its notes."""
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in table.columns)
    body = []
    for row in table.rows:
        cells = [f'<th scope="row">{_mark(row[0].role)}{html.escape(row[0].text)}</th>']
        cells += [f"<td{' class=bad' if cell.bad else ''}>{_kept_together(cell.text)}</td>" for cell in row[1:]]
        body.append(f"<tr>{''.join(cells)}</tr>")
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in table.notes)
    return (
        f'<figure class="table"><figcaption>{html.escape(table.title)}</figcaption><div class="scroll"><table><thead><tr>{head}</tr>'
        f"</thead><tbody>{''.join(body)}</tbody></table></div>{notes}</figure>"
    )


def _kept_together(text: str) -> str:
    """Escaped; a line may break before an interval and not within it."""
    if len(text) <= 12:
        return html.escape(text).replace(" ", "\u00a0")
    return re.sub(r"\([^()]*\)", lambda found: found[0].replace(" ", "\u00a0"), html.escape(text))


def _mark(role: str) -> str:
    appearance = look(role)
    return (
        f'<span class="mark" style="color:{appearance.colour}" title="{html.escape(role)}">{appearance.glyph}</span> '
        if role
        else ""
    )


_MARKDOWN = re.compile(r"([\\`*_\[\]|#~$!{}])")


def in_markdown(text: str) -> str:
    """`text` on one line, without markup."""
    return (
        _MARKDOWN.sub(r"\\\1", " ".join(text.split())).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    )


def to_markdown(table: Table) -> str:
    """A heading, the table and its notes."""
    lines = [f"### {in_markdown(table.title)}", "", "| " + " | ".join(map(in_markdown, table.columns)) + " |"]
    lines.append("|---|" + "--:|" * (len(table.columns) - 1))
    lines += [
        "| " + " | ".join(f"**{in_markdown(c.text)}**" if c.bad else in_markdown(c.text) for c in row) + " |"
        for row in table.rows
    ]
    return "\n".join([*lines, "", *(in_markdown(note) + "  " for note in table.notes)]).rstrip() + "\n"


_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    '"': "''", "–": "--", "—": "---", "−": "$-$", "‖": r"$\Vert$", "Δ": r"$\Delta$", "×": r"$\times$", "±": r"$\pm$",
    "…": r"\ldots{}", "≥": r"$\geq$", "≤": r"$\leq$", "·": r"$\cdot$", "→": r"$\rightarrow$", "\u00a0": "~", "`": r"\textasciigrave{}",
    "α": r"$\alpha$", "β": r"$\beta$", "λ": r"$\lambda$", "’": "'", "“": "``", "”": "''",
}  # fmt: skip


def in_latex(text: str) -> str:
    """`text` for LaTeX, ASCII only; a character without a command is written as its code point."""
    line = " ".join(text.split())
    return "".join(_LATEX.get(c) or (c if " " <= c <= "~" else f"[U+{ord(c):04X}]") for c in line)


def to_latex(table: Table) -> str:
    """A `table` environment with booktabs rules."""
    rows = [
        " & ".join(in_latex(c.text) if not c.bad else rf"\textbf{{{in_latex(c.text)}}}" for c in row)
        for row in table.rows
    ]
    notes = f"\n\n\\smallskip\\footnotesize {' '.join(map(in_latex, table.notes))}" if table.notes else ""
    size = r"\centering\small" if len(table.columns) < 8 else r"\centering\footnotesize\setlength{\tabcolsep}{3pt}"
    return "\n".join([
        r"\begin{table}[htbp]", size, rf"\caption{{{in_latex(table.title)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}", r"\toprule", f"{' & '.join(map(in_latex, table.columns))} \\\\",
        r"\midrule", *(f"{{}}{row} \\\\" for row in rows), r"\bottomrule", rf"\end{{tabular}}{notes}", r"\end{table}", "",
    ])  # fmt: skip
