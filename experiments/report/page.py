"""The page of a report: one HTML file that needs nothing else.

1. It loads nothing: figures, style and script are in it, and its content security policy refuses every request.
2. Whatever was stored with a run is escaped.
3. Light and dark follow the reader's setting; print is light.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from ..looks import look
from .evidence import Evidence
from .forms import to_html
from .reproduce import Recipe
from .tables import Table, sentences

if TYPE_CHECKING:
    from .figures import Drawing

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
WIDE = 9.0
"""Figures wider than this many inches take a line of their own."""


def page(
    evidence: Evidence,
    tables: dict[str, Sequence[Table]],
    drawings: Sequence[Drawing],
    left_out: Sequence[tuple[str, str]],
    recipe: Recipe,
) -> str:
    """The whole page. `tables` holds the tables of each split, and under the empty name those of the run; `left_out` names the figures that
    do not apply, with the reason."""
    manifest = evidence.manifest
    title = html.escape(manifest.name)
    sections = [("what", "What was run", _what(evidence))]
    for number, split in enumerate(manifest.splits):
        sections.append((f"split-{number}", f"Results: {split}", _results(evidence, tables.get(split, ()), split)))
    if tables.get(""):
        sections.append(("more", _MORE.get(evidence.kind, "More"), "".join(map(to_html, tables[""]))))
    sections.append(("figures", "Figures", _figures(drawings, left_out)))
    sections.append(("again", "Make it again", _again(evidence, recipe)))
    links = "".join(f'<a href="#{name}">{html.escape(head)}</a>' for name, head, _ in sections)
    body = "".join(
        f'<section id="{name}"><h2>{html.escape(head)}</h2>{text}</section>' for name, head, text in sections
    )
    said = [str(text) for text in (evidence.doubts, evidence.partial, *manifest.facts.get("warnings", ())) if text]
    banner = "".join(f'<div class="banner" role="alert">{html.escape(text)}</div>' for text in said)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><title>{title}</title><style>{_part("report.css")}</style></head>'
        f"<body><main><h1>{title}</h1><p class=quiet>run <code>{html.escape(manifest.run_id)}</code> · {evidence.kind} · "
        f"{evidence.stored:,} rows</p>{banner}{_faults(evidence)}<nav>{links}</nav>{body}</main><script>{_part('report.js')}</script>"
        f"</body></html>\n"
    )


_MORE = {"sweep, development": "Cells", "ablation": "Targets", "hybrid": "Controllers"}


def _part(name: str) -> str:
    return files("experiments.report").joinpath(name).read_text("utf-8")


def _faults(evidence: Evidence) -> str:
    """Receipts that do not match their plans, over everything else."""
    said = [
        f"{arm.label} ({split.split}): {arm.edits_fired:,} of {arm.edits_planned:,} planned edits were made. "
        "Its numbers do not show what its plan would do."
        for split in evidence.summary.splits
        for arm in split.arms
        if arm.edits_fired != arm.edits_planned
    ]
    return "".join(f'<div class="banner" role="alert">{html.escape(text)}</div>' for text in said)


def _what(evidence: Evidence) -> str:
    manifest, facts = evidence.manifest, evidence.manifest.facts
    models = [
        f"{name} (weights {facts['models'][name]})" if name in facts.get("models", {}) else name
        for name in dict.fromkeys(
            m for arm in manifest.arms for m in (arm.model, (arm.controller or {}).get("thinking")) if m is not None
        )
    ]
    splits = ", ".join(f"{name}: {n} items" for name, n in manifest.splits.items())
    vectors = [
        f"{v.get('name')} at {v.get('site')}" + (f", norm {v['norm']:g}" if "norm" in v else "") + f" ({digest})"
        for digest, v in facts.get("vectors", {}).items()
    ]
    roles: dict[str, list[str]] = {}
    for arm in manifest.arms:
        roles.setdefault(arm.role, []).append(arm.label)
    arms = "; ".join(f"{len(v)} {role}: {', '.join(v[:4])}{', …' if len(v) > 4 else ''}" for role, v in roles.items())
    task = manifest.spec.get("task", "not stored")
    listed: list[tuple[str, str]] = [
        ("models", "; ".join(models)),
        ("task", task if isinstance(task, str) else ", ".join(f"{k}: {v}" for k, v in task.items())),
        ("items", f"{splits}; {manifest.seeds} sequence{'s' * (manifest.seeds > 1)} per item and arm"),
        ("arms", arms),
    ]
    if evidence.sweep is not None:
        listed.append(("sweep", _sweep_words(evidence)))
    if vectors:
        listed.append(
            ("vectors", "; ".join(vectors[:6]) + (f"; and {len(vectors) - 6} more" if len(vectors) > 6 else ""))
        )
    body = "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in listed)
    chips = "".join(
        f"<li{' class=other' if other else ''}>{html.escape(text)}</li>" for text, other in decoding(evidence)
    )
    note = '<p class="quiet">Decoding; a setting that is not the default is marked.</p>' if chips else ""
    legend = "".join(f"<li>{_glyph(role)} {html.escape(role)}: {look(role).meaning}</li>" for role in roles)
    return f'<dl class="facts">{body}</dl>{note}<ul class="chips">{chips}</ul><ul class="chips">{legend}</ul>'


def _sweep_words(evidence: Evidence) -> str:
    """What the run is of its sweep."""
    card: dict[str, Any] = evidence.sweep or {}
    development = card["sweep"].get("splits", {}).get("development", {})
    where = ", ".join(f"{name}: {n} items" for name, n in development.items())
    if evidence.kind == "sweep, development":
        return (
            f"{len(card['cells'])} cells, each beside random directions of its own; the best is chosen on these items"
        )
    cell = card["cells"][0]
    settings = ", ".join(f"{k} {v}" for k, v in cell["settings"].items())
    return f"{cell['name']} ({settings}), chosen on {where}; the items here did not choose it"


def decoding(evidence: Evidence) -> list[tuple[str, bool]]:
    """The decoding settings and, of a task, the prompt forms and openings, each with whether it differs from the default."""
    from ..evaluation.spec import Generating

    manifest, defaults = evidence.manifest, Generating().model_dump(mode="json")
    settings: dict[str, Any] = manifest.spec.get("generation") or manifest.spec.get("settings") or {}
    found = []
    for name, value in settings.items():
        other = name in defaults and value != defaults[name]
        if value is not None or other:
            shown = "greedy" if name == "temperature" and value == 0 else f"{name.replace('_', ' ')} {_short(value)}"
            found.append((shown, other))
    forms = dict.fromkeys(arm.form for arm in manifest.arms)
    found += [(f"prompt form {form}", form != manifest.baseline.form) for form in forms]
    found += [(f"opening {arm.opening!r} ({arm.label})", True) for arm in manifest.arms if arm.opening]
    return found


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else text[:59] + "…"


def _glyph(role: str) -> str:
    appearance = look(role)
    return f'<span class="mark" style="color:{appearance.colour}">{appearance.glyph}</span>'


def _results(evidence: Evidence, tables: Sequence[Table], split: str) -> str:
    if not any(arm.n for arm in evidence.summary.split(split).arms):
        return "<p>No rows of this split are stored yet.</p>"
    said = [
        f"<li>{_glyph(role)} <b>{html.escape(label)}</b>: {html.escape(text)}</li>"
        for role, label, text in sentences(evidence, split)
    ]
    if len(said) > 8:
        shown = f'<details><summary>{len(said)} arms in words</summary><ul class="said">{"".join(said)}</ul></details>'
    else:
        shown = f'<ul class="said">{"".join(said)}</ul>'
    return shown + "".join(map(to_html, tables))


def _figures(drawings: Sequence[Drawing], left_out: Sequence[tuple[str, str]]) -> str:
    shown = []
    for drawing in drawings:
        wide = " class=wide" if drawing.figure.get_figwidth() > WIDE else ""
        shown.append(f"<figure{wide}>{drawing.inline()}<figcaption>{html.escape(drawing.words)}</figcaption></figure>")
    missing = "".join(f"<li>{html.escape(name)}: {html.escape(reason)}.</li>" for name, reason in left_out)
    note = (
        f'<p class="quiet">Left out, for this run has nothing to show in them:</p><ul class="quiet">{missing}</ul>'
        if missing
        else ""
    )
    return f'<div class="drawings">{"".join(shown)}</div>{note}'


def _again(evidence: Evidence, recipe: Recipe) -> str:
    facts = {k: v for k, v in evidence.manifest.facts.items() if k not in ("vectors",)}
    listed = [("run id", evidence.manifest.run_id), ("status", evidence.manifest.status)]
    listed += [(k, _pairs(v)) for k, v in facts.items()]
    body = "".join(f"<dt>{html.escape(k)}</dt><dd><code>{html.escape(v)}</code></dd>" for k, v in listed)
    notes = "".join(f'<p class="quiet">{html.escape(note)}</p>' for note in recipe.notes)
    sweep = (
        f"<details><summary>sweep.yaml</summary><pre>{html.escape(recipe.sweep)}</pre></details>"
        if recipe.sweep
        else ""
    )
    return (
        f"<pre>{html.escape(recipe.command)}</pre>{notes}<details open><summary>spec.yaml</summary><pre>{html.escape(recipe.spec)}</pre>"
        f'</details>{sweep}<dl class="facts">{body}</dl>'
    )


def _pairs(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}: {_pairs(v)}" for k, v in value.items()) or "none"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
