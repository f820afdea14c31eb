"""Reports: numbers equal the summary's, text stays text, equal runs give equal bytes, and what is missing is said."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from experiments.evaluation.controls import matched_controls
from experiments.evaluation.summarise import summarise
from experiments.report import Report, Unavailable, gather, write_report
from experiments.report.figures import dose_response, forest, heatmap, outcome_matrix, outcomes, pareto
from experiments.report.figures.sweeps import axis_names
from experiments.report.forms import in_latex, in_markdown
from experiments.statistics import against_directions
from experiments.store.runs import Manifest, Run, Store
from tests.experiments.fake_run import HOSTILE, SPLITS, make_fake_run, make_manifest, make_markup_run, make_rows

N = 40


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_fake_run(tmp_path_factory.mktemp("runs"), N)


@pytest.fixture(scope="module")
def written(fake: Run, tmp_path_factory: pytest.TempPathFactory) -> Report:
    return write_report(fake, tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose arm labels, item names and answers, and whose name, are markup."""
    return make_markup_run(tmp_path_factory.mktemp("hostile"))


def made(cells: dict[tuple[int, float], float], tmp_path: Path, without: str | None = None) -> Run:
    """A sweep's development run of 60 items with the given shares right per cell; each of its 20 random directions is right on 20 %.

    The arm `without` lacks its last row.
    """
    n, like = 60, make_rows(1)[0]
    shares = {"baseline": 0.2}
    for number, share in enumerate(cells.values()):
        shares |= {f"cell-{number:03d}": share, **{f"cell-{number:03d}-random-{k}": 0.2 for k in range(20)}}
    roles = {
        name: "baseline" if name == "baseline" else "control" if "random" in name else "steered" for name in shares
    }
    plans = {}
    for name in shares:
        if name != "baseline":
            step = {"operation": "add", "vector": name, "vector_name": "random 0" if "random" in name else "v"}
            own = name.split("-random")[0]
            plans[name] = {
                "interventions": [{**step, "site": own, "span": "last_prompt", "dose": {"amount": 1, "unit": "vector"}}]
            }
    arms = [
        {"name": a, "label": a, "role": roles[a], "model": "m", "form": "bare", "plan": plans.get(a)} for a in shares
    ]
    manifest = Manifest.model_validate(
        {"run_id": "made", "name": "made", "spec": {"arms": []}, "arms": arms, "splits": {"dev": n}}
    )
    run = Store(tmp_path).create(manifest)
    rows = []
    for arm, share in shares.items():
        for item in range(n):
            place = {
                "arm": arm,
                "split": "dev",
                "item": f"i{item:03d}",
                "order": item,
                "seed": 0,
                "key": f"{arm}-{item}",
            }
            rows.append({**like, **place, "gold": "1", "answer": "1", "correct": item < share * n})
    run.write([row for row in rows if row["arm"] != without or row["order"] < n - 1])
    run.set_status("complete")
    card = {
        "sweep": {"name": "made", "splits": {"development": {"dev": n}}},
        "cells": [
            {"name": f"cell-{i:03d}", "settings": dict(zip(("layer", "dose"), key, strict=True))}
            for i, key in enumerate(cells)
        ],
    }
    (run.folder / "sweep.json").write_text(json.dumps(card))
    return run


def test_every_file_is_there_and_whole(written: Report) -> None:
    names = {str(path.relative_to(written.folder)) for path in written.files}
    figures = {f"{kind}-{split}" for kind in ("forest", "pareto", "outcomes", "matrix") for split in SPLITS}
    assert {f"figures/{name}.{kind}" for name in figures for kind in ("svg", "png", "csv")} <= names
    assert {"report.html", "tables.md", "tables.tex", "tables.csv", "spec.yaml"} <= names
    assert all(path.stat().st_size > 0 for path in written.files)
    assert dict(written.left_out) == {"layer by dose": "the run is no sweep", "dose-response": "no dose varies in it"}
    assert written.partial is None


def test_the_page_shows_the_numbers_of_the_summary(fake: Run, written: Report) -> None:
    text = re.sub(r"<[^>]*>", "\n", (written.folder / "report.html").read_text()).replace("\u00a0", " ")
    summary = summarise(fake.table(), fake.manifest)
    for split in summary.splits:
        for arm in split.arms:
            share = arm.accuracy
            assert share is not None and arm.mean_tokens is not None
            low, high = 100 * share.interval.low, 100 * share.interval.high
            assert f"{100 * share.value:.1f} ({low:.1f} to {high:.1f})" in text
            assert f"{arm.mean_tokens:.1f}" in text
            if arm.versus_baseline is not None:
                found = arm.versus_baseline
                low, high = 100 * found.interval.low, 100 * found.interval.high
                assert (
                    f"{100 * found.difference + 0.0:+.1f} ({low:+.1f} to {high:+.1f})".replace("-0.0", "+0.0") in text
                )
                assert f"{found.helped} / {found.hurt} / {found.n - found.helped - found.hurt}" in text
            if arm.gap is not None and arm.gap.value is not None and arm.gap.interval is not None:
                assert f"{100 * arm.gap.value:.1f} (" in text
    table = pd.read_csv(written.folder / "tables.csv").set_index(["split", "arm"])
    for split in summary.splits:
        for arm in split.arms:
            assert arm.accuracy is not None
            assert table.loc[(split.split, arm.name), "accuracy"] == pytest.approx(arm.accuracy.value, abs=1e-5)
            assert table.loc[(split.split, arm.name), "edits_fired"] == arm.edits_fired


def test_the_matched_random_direction_stands_beside_its_arm(fake: Run) -> None:
    controls = matched_controls(fake.manifest)
    assert {arm: own.arms for arm, own in controls.items()} == {"steered": ("random",)}, (
        "the wrong sign is no random direction"
    )
    found = gather(fake).summary.split(SPLITS[0]).arm("steered").beyond
    rows = fake.table(split=SPLITS[0]).to_pandas().pivot_table(index="item", columns="arm", values="correct")
    rows = rows.astype(float)
    alone = against_directions(rows["steered"].to_numpy(), rows[["random"]].to_numpy().T)
    assert found is not None and (found.count, found.rank_p) == (1, alone.rank_p)
    assert (found.interval.low, found.interval.high) == pytest.approx(
        (alone.interval.low, alone.interval.high), abs=1e-5
    )
    assert found.few and found.interval.high - found.interval.low > 1, "one draw does not tell how directions differ"
    assert summarise(fake.table(), fake.manifest).split(SPLITS[0]).arm("random").control_of == "steered"


class _Loads(HTMLParser):
    """Everything that a page would fetch, and its elements."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "srcset", "data", "poster", "action") or (
                name == "href" and tag in ("link", "use", "image", "base")
            ):
                self.loads.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)


def test_the_page_loads_nothing(written: Report) -> None:
    text = (written.folder / "report.html").read_text()
    parser = _Loads()
    parser.feed(text)
    assert all(value.startswith("#") or value.startswith("data:") for value in parser.loads)
    assert "http://" not in text and "https://" not in text and "@import" not in text
    assert "default-src 'none'" in text
    ids = re.findall(r' id="([^"]*)"', text)
    assert len(set(ids)) == len(ids) or {i for i in ids if ids.count(i) > 1} <= {i for i in ids if "DejaVu" in i}
    used = set(re.findall(r'(?:href="#|url\(#)([^")]*)', text))
    assert used <= set(ids), sorted(used - set(ids))[:3]


def test_hostile_text_stays_text(hostile: Run, tmp_path: Path) -> None:
    report = write_report(hostile, tmp_path, ("html", "md", "latex", "csv", "svg"))
    text = (tmp_path / "report.html").read_text()
    parser = _Loads()
    parser.feed(text)
    assert parser.tags.count("script") == 1 and not parser.handlers and "img" not in parser.tags
    assert "&lt;script&gt;window.__xss=1&lt;/script&gt;" in text and "<script>window" not in text
    assert not any(text.count(markup) for markup in HOSTILE)
    for path in report.files:
        if path.suffix in (".svg", ".md"):
            assert "<script" not in path.read_text()
    matrix = (tmp_path / "figures" / f"matrix-{SPLITS[0]}.svg").read_text()
    assert "answered &lt;script&gt;" in matrix, "answers are shown, as text"
    assert "window.\\_\\_xss" in (tmp_path / "tables.tex").read_text()


def test_equal_runs_give_equal_bytes(fake: Run, written: Report, tmp_path: Path) -> None:
    again = write_report(fake, tmp_path)
    assert [p.relative_to(tmp_path) for p in again.files] == [p.relative_to(written.folder) for p in written.files]
    for mine, theirs in zip(again.files, written.files, strict=True):
        assert mine.read_bytes() == theirs.read_bytes(), mine.name


def test_cells_are_faded_exactly_where_the_interval_holds_zero(tmp_path: Path) -> None:
    shares = {(0, 0.5): 0.2, (0, 1.0): 0.25, (1, 0.5): 0.9, (1, 1.0): 0.0, (2, 1.0): 0.22}
    evidence = gather(made(shares, tmp_path))
    assert evidence.kind == "sweep, development"
    drawing = heatmap(evidence)
    table = drawing.frame.set_index("cell")
    zero = {cell: bool(line["over_control_low"] <= 0 <= line["over_control_high"]) for cell, line in table.iterrows()}
    assert set(zero.values()) == {True, False}
    (axes,) = drawing.figure.axes
    boxes = {p.get_gid(): p for p in axes.patches if p.get_gid()}
    top = table["score"].abs().max()
    for cell, faded in zero.items():
        strength = 0.16 + 0.79 * abs(table.loc[cell, "score"]) / top
        assert boxes[f"cell-0-{cell}"].get_alpha() == pytest.approx((0.3 if faded else 1.0) * strength)
        assert ("the interval holds 0" in drawing.tips[f"cell-0-{cell}"]) == faded
        assert (
            "of 20 random directions do as well" in drawing.tips[f"cell-0-{cell}"]
            and "n = 60" in drawing.tips[f"cell-0-{cell}"]
        )
    assert len(boxes) == 5, "a cell that was not run is blank"
    assert table.index[table["chosen"]].tolist() == ["cell-002"]
    boxed = [p for p in axes.patches if p.get_linewidth() > 2]
    assert [(p.get_x() + 0.48, round(p.get_y() + 0.47)) for p in boxed] == [(0, 1)]


def test_a_cell_that_is_not_finished_is_blank(tmp_path: Path) -> None:
    evidence = gather(made({(0, 0.5): 0.2, (0, 1.0): 0.25, (1, 0.5): 0.9}, tmp_path, without="cell-002-random-0"))
    assert evidence.partial == "partial: 3,839 of 3,840 rows (status: complete)"
    assert heatmap(evidence).frame["cell"].tolist() == ["cell-000", "cell-001"]
    assert set(dose_response(evidence).frame["arm"]) == {"cell-000", "cell-001"}


def test_settings_find_their_axes() -> None:
    table = pd.DataFrame({"vector": ["a", "b"], "dose": [1, 2], "layer": [0, 1], "span": ["all", "all"]})
    assert axis_names(table, ["vector", "dose", "layer"]) == ("layer", "dose", ["vector"])
    assert axis_names(table, ["dose"]) == (None, "dose", [])
    assert axis_names(table, ["span", "vector"]) == ("span", "vector", [])
    assert axis_names(table, ["layer", "dose", "span"]) == ("layer", "dose", []), (
        "a setting with one value needs no panels"
    )


def test_a_sweep_shows_doses_beside_random_directions(tmp_path: Path) -> None:
    evidence = gather(made({(0, 0.5): 0.2, (0, 1.0): 0.5, (1, 0.5): 0.9, (1, 1.0): 0.0}, tmp_path))
    drawing = dose_response(evidence)
    frame = drawing.frame
    assert frame["panel"].tolist() == ["layer 0", "layer 0", "layer 1", "layer 1"]
    assert frame["dose"].tolist() == [0.5, 1.0, 0.5, 1.0]
    assert frame["difference"].tolist() == pytest.approx([0, 0.3, 0.7, -0.2]) and (frame["control"] == 0).all()
    assert (frame["n"] == 60).all() and len(drawing.tips) == 4


def test_figures_hold_the_numbers_that_they_draw(fake: Run) -> None:
    evidence = gather(fake)
    split = evidence.summary.splits[0]
    drawn = forest(split).frame.set_index("arm")
    for arm in split.arms[1:]:
        assert arm.versus_baseline is not None
        assert drawn.loc[arm.name, "difference"] == arm.versus_baseline.difference
        assert drawn.loc[arm.name, "low"] == arm.versus_baseline.interval.low
    counted = outcomes(evidence, split.split).frame.set_index("arm")
    cells = outcome_matrix(evidence, split.split).frame
    for arm in split.arms[1:]:
        found = arm.versus_baseline
        assert found is not None and (counted.loc[arm.name, "helped"], counted.loc[arm.name, "hurt"]) == (
            found.helped,
            found.hurt,
        )
        assert (cells[cells["arm"] == arm.name]["outcome"] == "helped").sum() == found.helped
    drawing = pareto(evidence, split.split)
    named = " ".join(text.get_text() for text in drawing.figure.axes[0].texts)
    assert "Thinking model" in named and "Base" in named, "the marks are named where there is room"
    front = drawing.frame.set_index("arm")
    for arm in split.arms:
        assert arm.accuracy is not None and front.loc[arm.name, "accuracy"] == pytest.approx(arm.accuracy.value)
        assert front.loc[arm.name, "tokens"] == pytest.approx(arm.mean_tokens)
        beaten = front.loc[arm.name, "beaten_by"]
        assert front.loc[arm.name, "on_front"] == (beaten is None or beaten != beaten) or not arm.accuracy.value


def test_a_partial_run_says_so_and_an_empty_one_too(tmp_path: Path) -> None:
    manifest = make_manifest("partial", 10)
    run = Store(tmp_path / "runs").create(manifest)
    empty = write_report(run, tmp_path / "empty")
    assert empty.partial == "partial: 0 of 120 rows (status: running)"
    assert "No rows of this split" in (tmp_path / "empty" / "report.html").read_text()
    assert len(empty.left_out) == 10
    run.write([r for r in make_rows(10) if r["arm"] in ("base_bare", "steered") or r["order"] < 3])
    partial = write_report(run, tmp_path / "some")
    assert partial.partial == "partial: 64 of 120 rows (status: running)"
    page = (tmp_path / "some" / "report.html").read_text()
    assert 'role="alert">partial: 64 of 120 rows' in page
    assert "partial: 64 of 120 rows" in (tmp_path / "some" / "tables.md").read_text()
    evidence = gather(run)
    assert [arm.name for arm in evidence.comparable.manifest.arms] == ["base_bare", "steered"]
    assert "Base, asked to think" in evidence.left_out and len(evidence.left_out) == 4
    assert pd.read_csv(tmp_path / "some" / "figures" / f"outcomes-{SPLITS[0]}.csv")["arm"].tolist() == ["steered"]


def test_missing_edits_are_red(tmp_path: Path) -> None:
    run = Store(tmp_path / "runs").create(make_manifest("red", 4))
    run.write([{**r, "edits_fired": 0} if r["arm"] == "steered" and r["order"] == 0 else r for r in make_rows(4)])
    run.set_status("complete")
    write_report(run, tmp_path / "report", ("html", "md"))
    text = (tmp_path / "report" / "report.html").read_text()
    assert 'role="alert">Base + reasoning vector (standard-test): 3 of 4 planned edits were made.' in text
    assert text.count("<td class=bad>1\u00a0missing</td>") == 2
    assert "**1 missing**" in (tmp_path / "report" / "tables.md").read_text()


def test_latex_and_markdown_are_escaped(written: Report) -> None:
    assert in_latex("50 % of x_1 & y < 2 \\ {a}~^#$") == (
        r"50 \% of x\_1 \& y \textless{} 2 \textbackslash{} \{a\}\textasciitilde{}\textasciicircum{}\#\$"
    )
    assert in_latex("‖Δ‖ 中") == r"$\Vert$$\Delta$$\Vert$ [U+4E2D]" and in_latex("a\n\nb") == "a b"
    assert in_markdown("a|b *c* <i>\nd") == r"a\|b \*c\* &lt;i&gt; d"
    text = (written.folder / "tables.tex").read_text()
    assert text.isascii() and text.count(r"\toprule") == text.count(r"\end{tabular}") == 3 * len(SPLITS)
    for line in text.splitlines():
        if line.endswith(r"\\"):
            assert not re.search(r"(?<!\\)[%#]", line)
    columns = [len(re.split(r"(?<!\\)&", line)) for line in text.splitlines() if line.endswith(r"\\")]
    assert set(columns) == {7, 9}


def test_spreadsheets_do_not_take_text_for_formulas(tmp_path: Path) -> None:
    from experiments.report.writing import in_csv

    read = pd.read_csv(io.StringIO(in_csv(pd.DataFrame({"label": ["=1+1", "-x", "fine"], "value": [-1.5, 2.0, 0.1]}))))
    assert read["label"].tolist() == ["'=1+1", "'-x", "fine"] and read["value"].tolist() == [-1.5, 2.0, 0.1]


def test_other_runs_have_no_heatmap(fake: Run) -> None:
    with pytest.raises(Unavailable, match="no sweep"):
        heatmap(gather(fake))


def test_a_report_says_what_is_said_of_the_questions(tmp_path: Path) -> None:
    run = make_fake_run(tmp_path / "runs", questions=["the 12 questions are 9 different ones"])
    write_report(run, tmp_path / "report")
    pages = [path.read_text() for path in (tmp_path / "report").rglob("*.html")]
    assert any("the 12 questions are 9 different ones" in page for page in pages)
