"""A vector is made from a form: what is typed is a command that is admitted and gives what the form said; what cannot be is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from app.jobs.admission import NotAdmitted, admitted_command
from app.vector_examples import MARKED
from app.vector_files import offered
from app.vector_maker import KINDS, METHODS, READS, Wish, arguments, files_of, prepare, wish_of
from app.vector_sweep import DIRECTIONS, FORMS, SHORT, SPLITS, Trial, file_of, sweep_of, tasks_for, write_sweep
from experiments.commands.cli import app as command_line
from experiments.quality_words import UNKNOWN, quality_words
from experiments.sweeps.spec import SweepSpec, cells_of, load_sweep
from experiments.tasks.task import resolve_task
from steering.errors import BadInput

POSITIVE = "\n".join(f"rules + {n} ; goal 31 start 42 91 9 ? think first" for n in range(2, 8))
NEGATIVE = POSITIVE.replace("think first", "be quick")
VARIED = tuple(
    "\n".join(f"{n} {word} {n + 1} ?" for n in range(first, first + 8)) for word, first in (("goal", 2), ("start", 40))
)
"""Texts that differ in every token."""
TYPED = Wish(
    name="My direction!", positive=POSITIVE, negative=NEGATIVE, layers=(1, 2), marked=MARKED[True], label="testing"
)


def made(wish: Wish, root: Path) -> list[dict[str, Any]]:
    """What the command of a wish writes."""
    given = admitted_command(arguments(wish, root), root)
    prepare(wish, root)
    done = CliRunner().invoke(command_line, given, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    return found if isinstance(found, list) else [found]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_contrast_is_a_command_that_writes_the_vectors_that_were_named(kind: str, tmp_path: Path) -> None:
    wish = replace(TYPED, kind=kind, n=12)
    written = made(wish, tmp_path)
    assert [Path(one["file"]) for one in written] == files_of(wish, tmp_path)
    assert [one["site"] for one in written] == ["blocks.1.hook_resid_post", "blocks.2.hook_resid_post"]
    here = {v.digest: v for v in offered(tmp_path).values() if v.source == "made here"}
    assert set(here) == {one["digest"] for one in written}
    assert {v.name for v in here.values()} == {"My direction!"} and {v.model for v in here.values()} == {"builtin:base"}
    words, _ = quality_words(Path(written[0]["file"]), written[0]["digest"])
    assert "texts held out" in words and "(" in words


def test_every_choice_of_the_form_is_one_that_the_command_knows(tmp_path: Path) -> None:
    for read in READS:
        for method in METHODS:
            wish = replace(
                TYPED, positive=VARIED[0], negative=VARIED[1], name=f"{read}-{method}", read=read, method=method, layers=(1,)
            )  # fmt: skip
            assert made(wish, tmp_path)
    for task, forms in FORMS.items():
        known = resolve_task(task)
        assert set(forms) <= set(known.forms) and set(SPLITS[task]) <= set(known.splits)
    assert set(SHORT) == set(tasks_for("smollm2")) and tasks_for("builtin:thinking") == ("find-start",)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "  "}, "name"),
        ({"model": " "}, "model"),
        ({"layers": ()}, "layer"),
        ({"positive": "only one"}, "positive side has 1 text"),
        ({"negative": POSITIVE}, "same texts"),
        ({"kind": "mode", "forms": ("think", "think")}, "two different prompt forms"),
        ({"kind": "checkpoint", "thinking": ""}, "thinking model"),
        ({"kind": "luck"}, "contrast luck"),
    ],
)
def test_what_cannot_be_made_is_said_before_anything_starts(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=words):
        arguments(replace(TYPED, **change), tmp_path)
    with pytest.raises(BadInput, match="URL"):
        arguments(TYPED, "s3://bucket/runs")


@pytest.mark.parametrize("name", ["../../etc/x", "--held-out", "a b\nc", "/tmp/elsewhere"])
def test_a_name_never_leads_out_of_the_store_nor_becomes_an_option(name: str, tmp_path: Path) -> None:
    given = admitted_command(arguments(replace(TYPED, name=name), tmp_path), tmp_path)
    assert Path(given[1]).parent == tmp_path / ".vectors"
    assert not given[given.index("--name") + 1].startswith("-") and "\n" not in given[given.index("--name") + 1]


def test_another_vector_of_the_same_name_has_another_file_and_another_label(tmp_path: Path) -> None:
    swapped = replace(TYPED, positive=NEGATIVE, negative=POSITIVE, layers=(1,))
    wishes = [
        replace(TYPED, layers=(1,)),
        swapped,
        replace(TYPED, name="My  direction?"),
        replace(TYPED, name="\N{CJK UNIFIED IDEOGRAPH-65E5}"),
    ]
    files = [str(path) for wish in wishes for path in files_of(wish, tmp_path)]
    assert len(set(files)) == len(files) == 6 and files_of(TYPED, tmp_path) == files_of(replace(TYPED), tmp_path)
    made(wishes[0], tmp_path)
    made(swapped, tmp_path)
    own = [v for v in offered(tmp_path).values() if v.source == "made here"]
    assert len(own) == 2 and own[0].name == own[1].name and own[0].site == own[1].site
    labels = [v.label for v in offered(tmp_path).values()]
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("kind", KINDS)
def test_a_wish_is_read_back_from_its_command(kind: str, tmp_path: Path) -> None:
    for wish in (replace(TYPED, kind=kind), replace(TYPED, kind=kind, layers=(2,), read="mean", stream="hook_mlp_out")):
        prepare(wish, tmp_path)
        again = wish_of(arguments(wish, tmp_path))
        assert arguments(again, tmp_path) == arguments(wish, tmp_path)
        assert (again.lines("positive"), again.layers) == (
            wish.lines("positive") if kind == "texts" else [],
            wish.layers,
        )
    for command in (["doctor"], ["extract", "x"], arguments(replace(TYPED, positive="gone\nand gone"), tmp_path)):
        with pytest.raises(BadInput, match="does not say"):
            wish_of(command)


def test_a_command_that_reads_or_writes_elsewhere_is_not_admitted(tmp_path: Path) -> None:
    given = arguments(TYPED, tmp_path)
    for place, word in ((1, "/tmp/elsewhere.safetensors"), (given.index("--positive") + 1, "/etc/passwd")):
        odd = [*given[:place], word, *given[place + 1 :]]
        with pytest.raises(NotAdmitted, match="lies in"):
            admitted_command(odd, tmp_path)
    with pytest.raises(NotAdmitted):
        admitted_command([*given, "--spans", "/etc/x.jsonl"], tmp_path)
    for verb in ("elicit", "train"):
        with pytest.raises(NotAdmitted):
            admitted_command([verb, "audit", "--set", "files=[/etc/passwd]"], tmp_path)
        assert admitted_command([verb, "audit", "--set", "n=20"], tmp_path)[:2] == [verb, "audit"]
    with pytest.raises(NotAdmitted):
        admitted_command(["extract", str(tmp_path / "x.safetensors"), "--task", "/etc/task.yaml"], tmp_path)


def test_a_test_of_a_vector_is_a_sweep_that_can_be_run_from_its_file(tmp_path: Path) -> None:
    vector = next(v for v in offered(tmp_path).values() if v.name == "checking")
    trial = Trial("builtin:base", layers=(1, 2), n_dev=4, n_test=6)
    path = write_sweep(vector, trial, tmp_path)
    assert path == file_of(vector, trial, tmp_path)
    spec = load_sweep(path, [])
    assert spec == SweepSpec.model_validate(yaml.safe_load(path.read_text())) and len(cells_of(spec)) == 8
    assert spec.controls.random == DIRECTIONS and spec.reference == "builtin:thinking"
    assert trial.rows == (1 + 8 * 20) * 4 + 43 * 6
    done = CliRunner().invoke(
        command_line, admitted_command(["sweep", "run", str(path), "--dry-run"], tmp_path), catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    assert sweep_of(vector, trial)["name"] != sweep_of(vector, replace(trial, doses=(1.0,)))["name"]
    for change, words in (
        ({"task": "short:addition", "form": "direct"}, "cannot be asked"),
        ({"doses": ()}, "dose"),
        ({"form": "x"}, "form x"),
    ):
        with pytest.raises(BadInput, match=words):
            sweep_of(vector, replace(trial, **change))


def test_a_report_that_is_missing_broken_or_of_another_vector_is_said(tmp_path: Path) -> None:
    vector = tmp_path / "a.safetensors"
    assert quality_words(vector, "0" * 16)[0] == UNKNOWN
    (tmp_path / "a.quality.json").write_text("{")
    assert "cannot be read" in quality_words(vector, "0" * 16)[0]
    (tmp_path / "a.quality.json").write_text(json.dumps({"vector": "f" * 16}))
    assert "report of another vector" in quality_words(vector, "0" * 16)[0]
