"""`steer sae` and `steer ablate` on the shipped autoencoders, and the notebook that does the same."""

from __future__ import annotations

import hashlib
import json
import random
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbclient import NotebookClient

from experiments.commands.cli import main
from experiments.commands.sae_options import model_of
from experiments.store.runs import Run, Store
from experiments.studies.asking import Asking
from experiments.studies.autoencoders import held_back_texts, read_texts, stored_statistics, texts_of
from experiments.studies.mode import choose_mode, mode_difference, mode_run, ranked_latents
from experiments.studies.scoring import causal_effects, score_pair
from saes.dashboard import Dashboard
from saes.dictionary import Dictionary
from saes.folders import trained_on
from saes.loading import load_dictionary
from saes.scores import candidates
from steering.errors import BadInput
from steering.model.models import LoadedModel, load_model
from steering.model.prompts import encode_prompt
from tests.experiments.command_line import Steer, command
from tests.tiny import tiny

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "feature_ablation.ipynb"
N = 12
ASKING = Asking(
    development={"standard-dev": 8, "hard-dev": 4}, test={"standard-test": 40, "hard-test": 40, "new-map-test": 40}
)


@pytest.fixture
def steer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Steer:
    return command(monkeypatch, capsys)


@pytest.fixture(scope="module")
def base() -> LoadedModel:
    return load_model("builtin:base")


@pytest.fixture(scope="module")
def shipped(base: LoadedModel) -> Dictionary:
    return load_dictionary("builtin:base", model=base)


@pytest.mark.parametrize("name", ["builtin:base", "builtin:thinking"])
def test_the_shipped_autoencoders_fit_their_models_and_say_how_good_they_are(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dictionary = load_dictionary(name, model=load_model(name))
    statistics = stored_statistics(name)
    statistics.check(dictionary)
    card = dictionary.card
    assert card["model"] == load_model(name).fingerprint
    assert card["quality"]["explained_variance"] > 0.97 and card["quality"]["recovered"] > 0.99
    assert card["quality"]["dead"] < 0.12 and float(statistics.alive.float().mean()) > 0.85
    monkeypatch.setattr(sys, "argv", ["steer", "sae", "show", name, "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code and json.loads(capsys.readouterr().out)["digest"] == dictionary.digest


@pytest.fixture(scope="module")
def table(base: LoadedModel, shipped: Dictionary) -> pd.DataFrame:
    return score_pair(base, load_model("builtin:thinking"), shipped, problems=24, injected=10)


def test_scores_of_the_pair_find_its_modes_and_call_them_token_driven(table: pd.DataFrame) -> None:
    best = candidates(table, "cot_difference", 8)
    assert len(best) == 8 and (table.loc[best, "cot_difference_q"] < 0.05).all()
    assert (table.loc[best[:3], "injection_class"] == "token-driven").all()
    for label in ("computing", "proposing", "testing the goal"):
        assert table[f"auroc_{label}"].max() > 0.95
    assert {"correctness", "reason_score", "thinking_difference", "promoted", "density"} <= set(table.columns)
    assert table.attrs["dictionary"] and table.attrs["tokens"] > 1000


def test_causal_effects_are_those_of_an_ablation_of_each_latent_alone(
    base: LoadedModel, shipped: Dictionary, tmp_path: Path
) -> None:
    store, statistics = Store(tmp_path), stored_statistics("builtin:base")
    found = causal_effects(store, {"builtin:base": base}, shipped, statistics, (385, 464), n=12, directions=1)
    (entry,) = store.list()
    rows = store.open(entry.run_id).table(columns=["arm", "item", "correct", "token_ids"]).to_pandas()
    right = rows.groupby("arm")["correct"].mean()
    lengths = rows.assign(n=rows["token_ids"].map(len)).groupby("arm")["n"].mean()
    for latent in (385, 464):
        for name, operation in (("ablate", "ablate"), ("add", "add 1p")):
            arm = f"{latent}|{operation}|generated|target"
            line = found.loc[latent]
            assert line[f"{name}_accuracy"] == pytest.approx(right[arm] - right["unsteered"])
            assert line[f"{name}_tokens"] == pytest.approx(lengths[arm] - lengths["unsteered"])
            assert line[f"{name}_accuracy_low"] <= line[f"{name}_accuracy"] <= line[f"{name}_accuracy_high"]
    assert {"ablate_tokens_q", "add_computing_low", "ablate_accuracy_p"} <= set(found.columns)
    assert found.filter(regex="^add_(accuracy|tokens)$").abs().to_numpy().max() > 0, (
        "an edit that does nothing tests nothing"
    )


@pytest.fixture(scope="module")
def mode(base: LoadedModel, shipped: Dictionary, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Run]:
    store, statistics = Store(tmp_path_factory.mktemp("mode")), stored_statistics("builtin:base")
    choice = choose_mode(store, {"builtin:base": base}, shipped, statistics, asking=ASKING)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("experiments.studies.mode.DIRECTIONS", 2)  # the tests look at the matched latents
        return choice, mode_run(store, {"builtin:base": base}, shipped, statistics, choice, asking=ASKING)


def test_one_latent_raised_once_overrides_the_direct_instruction(mode: tuple[Any, Run]) -> None:
    choice, run = mode
    frame = run.table(columns=["arm", "correct", "token_ids", "edits_fired"]).to_pandas()
    right = frame.groupby("arm")["correct"].mean()
    gap = right["reasoning"] - right["direct"]
    assert len(choice.latents) <= 2 and choice.latents[0] in choice.ranked
    assert (right["quick-raised"] - right["direct"]) / gap > 0.8
    controls = [right[f"control-{i}"] for i in range(5)]
    assert (np.mean(controls) - right["direct"]) / gap < 0.2
    tokens = frame.assign(n=frame["token_ids"].map(len)).groupby("arm")["n"].mean()
    assert tokens["quick-raised"] > 10 * tokens["direct"]
    assert set(frame[frame["arm"] == "quick-raised"]["edits_fired"]) == {1}


def test_a_given_opening_is_part_of_the_response_but_not_of_its_tokens(mode: tuple[Any, Run]) -> None:
    _, run = mode
    rows = run.table(
        columns=["arm", "prompt", "tokens", "labels", "trace_ok"], arms=["opening", "reasoning"]
    ).to_pylist()
    opened = [r for r in rows if r["arm"] == "opening"]
    assert all(r["prompt"].endswith("be quick let") and r["tokens"][0] != "let" for r in opened)
    assert np.mean([r["trace_ok"] for r in opened]) > 0.5, "graded without its opening a trace is not verified"
    assert all(0 <= s["start"] < s["end"] <= len(r["tokens"]) for r in opened for s in r["labels"])


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    runs = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.read(NOTEBOOK, 4)
    setting = nbformat.v4.new_code_cell(
        f"import os\nos.environ['STEERING_N'] = '{N}'\nos.environ['STEERING_RUNS'] = {str(runs)!r}"
    )
    notebook.cells.insert(0, setting)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    return notebook, runs


@pytest.mark.slow
def test_the_notebook_runs_clean_and_the_command_gives_its_numbers(
    executed: tuple[Any, Path], base: LoadedModel, shipped: Dictionary, tmp_path: Path, steer: Steer
) -> None:
    notebook, runs = executed
    errors = [o for c in notebook.cells for o in c.get("outputs", []) if o["output_type"] == "error"]
    assert not errors
    told = notebook.cells[-1]["outputs"][0]["text"].split()
    assert told[:2] == ["steer", "ablate"]
    ranked = ranked_latents(mode_difference(base, shipped), stored_statistics("builtin:base"), 8)
    groups = [",".join(map(str, ranked[:k])) for k in (1, 2, 4, 8)]
    assert [told[i + 1] for i, word in enumerate(told) if word == "--latents"] == groups
    options = [part for group in groups for part in ("--latents", group)]
    exit_code, out, err = steer(
        "ablate", *options, "--operation", "scale -4f", "--scope", "last_prompt", "--controls", 3, "--directions", 20, "--n", N,
        "--runs", tmp_path, "--figure", tmp_path / "forest.html", "--json",
    )  # fmt: skip
    assert exit_code == 0, err[-2000:]
    document = json.loads(out)
    (own,) = [e.run_id for e in Store(runs).list() if e.manifest is not None and e.manifest.name == "ablation"]
    assert document["run"] == own
    texts = [Store(folder).open(own).table(columns=["key", "text"]).to_pylist() for folder in (runs, tmp_path)]
    assert texts[0] == texts[1]
    largest = [e for e in document["effects"] if e["kind"] == "target" and e["size"] == 8][0]
    assert largest["against_high"] < -0.3, "taking out what starts reasoning does more harm than its matched controls"
    assert "<div" in (tmp_path / "forest.html").read_text()


def test_the_committed_notebook_has_its_outputs() -> None:
    cells = [c for c in nbformat.read(NOTEBOOK, 4).cells if c.cell_type == "code"]
    pictures = sum("image/png" in o.get("data", {}) for c in cells for o in c["outputs"])
    assert pictures >= 2 and all(c["execution_count"] for c in cells)
    assert not [o for c in cells for o in c["outputs"] if o["output_type"] == "error"]


def test_mistakes_on_the_command_line_end_with_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, told in (
        (["ablate", "--latents", "x"], "write numbers"),
        (["ablate", "--latents", "5000", "--runs", tmp_path], "5000 does not exist"),
        (["ablate", "--latents", "3", "--sae", "nowhere/none"], "neither a folder"),
        (["sae", "train", "--out", tmp_path / "x", "--architecture", "tok"], "architecture"),
        (["sae", "train", "--out", tmp_path / "x", "--site", "blocks.9.hook_resid_post"], "blocks.9"),
        (["sae", "train", "--out", tmp_path / "x", "--piece", 64], "give --texts too"),
        (["sae", "train", "--out", tmp_path / "x", "--loss-tokens", 0], "--loss-tokens 0"),
        (["sae", "train", "--out", tmp_path / "x", "--stored", "float8"], "precision"),
    ):
        monkeypatch.setattr(sys, "argv", ["steer", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2 and told in capsys.readouterr().err, arguments


def test_texts_come_from_files_line_by_line(tmp_path: Path, base: LoadedModel) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": f"rules + {i} ; goal 3 start 4 ?"}) + "\n" for i in range(30)))
    assert len(read_texts(base, path)) == 30
    path.write_text('{"text": "a"}\n{"tixt": "b"}\n')
    with pytest.raises(BadInput, match="line 2"):
        read_texts(base, path)
    with pytest.raises(BadInput, match="No text file"):
        read_texts(base, tmp_path / "none.txt")


def test_a_text_longer_than_a_piece_is_read_to_its_end_and_held_back_as_a_whole(
    tmp_path: Path, base: LoadedModel
) -> None:
    path = tmp_path / "texts.txt"
    lines = [" ".join(["rules + 15 ;"] * (1 + i % 7)) for i in range(40)]
    path.write_text("\n".join(lines))
    texts = read_texts(base, path, 6)
    for line, pieces in zip(lines, texts, strict=True):
        ids = encode_prompt(base, line)
        assert ids[0] == base.tokenizer.bos_token_id == pieces[-1].ids[0] and max(len(p.ids) for p in pieces) <= 6
        assert ids[1:] == tuple(i for piece in pieces for i in piece.ids[1:])
    training, held_back = texts_of(base, path, 0, 6), held_back_texts(base, path, 6)
    assert held_back == [*texts[0], *texts[20]] and len(training) + len(held_back) == sum(map(len, texts))
    path.write_text("\n".join(["rules + 15 ; " * 300] * 20))
    assert sum(len(p.ids) - 1 for p in read_texts(base, path)[0]) == 4 * 300, "the end of a long text was left out"
    for piece in (1, base.context + 1):
        with pytest.raises(BadInput, match="Pieces of"):
            read_texts(base, path, piece)


def test_an_autoencoder_of_a_text_file_says_what_it_was_trained_on_and_how_well_it_reads_the_rest(
    tmp_path: Path, steer: Steer, base: LoadedModel
) -> None:
    path, out, shown = tmp_path / "text.txt", tmp_path / "trained", tmp_path / "dashboard"
    rng = random.Random(0)
    path.write_text(
        "".join(
            f"rules {' ; '.join(f'+ {rng.randrange(99)}' for _ in range(12))} ; goal 3 start 4 ?\n" for _ in range(60)
        )
    )
    size = ["--model", "builtin:base", "--texts", path, "--piece", 16]
    code, told, _ = steer(
        "sae", "train", "--out", out, *size, "--architecture", "batchtopk", "--latents", 64, "--k", 4, "--activations", 8192,
        "--hold", "--stored", "bfloat16", "--statistics-tokens", 500, "--loss-tokens", 30,
        "--about", "made for a test", "--json",
    )  # fmt: skip
    said = json.loads(told)
    dictionary = load_dictionary(out / "sae", model=base)
    card, statistics = dictionary.card, stored_statistics(str(out / "sae"))
    training, held_back = texts_of(base, path, 0, 16), held_back_texts(base, path, 16)
    assert card["texts"] == {
        "file": "text.txt", "bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "piece": 16,
        "tokens": sum(len(t.ids) for t in training), "held_back_tokens": sum(len(t.ids) for t in held_back),
        "about": "made for a test",
    }  # fmt: skip
    assert card["model"] == base.fingerprint and "remarks" not in card
    assert 400 < statistics.tokens < 600 and 20 < said["loss_tokens"] < 60
    _, table, _ = steer("sae", "show", out / "sae")
    assert re.search(r"texts: about +│ made for a test", table) and re.search(r"quality: l0 +│ \d", table)
    quality = card["quality"]
    assert quality["tokens"] == said["tokens"] == sum(len(t.ids) - 1 for t in held_back)
    assert quality["explained_variance_low"] < quality["explained_variance"] < quality["explained_variance_high"]
    assert quality["recovered_of_mean"] == pytest.approx(said["recovered_of_mean"], abs=1e-6)
    window = ["--examples", 1, "--before", 4, "--after", 2]
    assert steer("sae", "dashboard", out / "sae", "--out", shown, *size, "--held-back", *window)[0] == 0
    read = Dashboard.open(shown, dictionary)
    assert read.facts["tokens"] == quality["tokens"] and read.facts["window"] == [4, 2] and "remarks" not in read.facts


def test_an_autoencoder_that_reads_another_model_says_so(
    tmp_path: Path, steer: Steer, base: LoadedModel, shipped: Dictionary
) -> None:
    thinking = load_model("builtin:thinking")
    assert shipped.origin(base) is None and "remarks" not in shipped.card
    (remark,) = load_dictionary("builtin:base", model=thinking).card["remarks"]
    assert remark == "builtin:base comes from another model: builtin:base, not builtin:thinking."
    assert shipped.features([3]).provenance.model == base.fingerprint
    out = tmp_path / "dashboard"
    size = ["--model", "builtin:thinking", "--problems", 2, "--examples", 1]
    code, _, told = steer("sae", "dashboard", "builtin:base", "--out", out, *size)
    assert code == 0 and f"Warning: The autoencoder {remark}" in told
    with pytest.raises(BadInput, match="The autoencoder smollm2-text is of smollm2, not of builtin:base: blocks.10"):
        load_dictionary("smollm2-text", model=base)
    assert Dashboard.open(out).facts["remarks"] == [remark]


def test_the_model_is_the_one_that_the_card_names(tmp_path: Path) -> None:
    assert trained_on("smollm2-text") == "smollm2" and trained_on("builtin:thinking") == "builtin:thinking"
    (tmp_path / "sae").mkdir()
    (tmp_path / "training.json").write_text('{"model_id": "somebody/model"}')
    assert trained_on(str(tmp_path / "sae")) == "somebody/model"
    assert trained_on("gpt2-small-res-jb/blocks.0.hook_resid_pre") == ""
    assert model_of("smollm2-text", None) == "smollm2" and model_of("smollm2-text", "builtin:base") == "builtin:base"


@pytest.mark.parametrize(
    "verb",
    [
        ("sae", "statistics", "smollm2-text", "--out", "x"),
        ("sae", "dashboard", "smollm2-text", "--out", "x"),
        ("sae", "score", "smollm2-text", "--out", "x"),
        ("sae", "mode", "--sae", "smollm2-text"),
        ("ablate", "--sae", "smollm2-text", "--latents", "1"),
    ],
)
def test_every_verb_reads_the_model_that_the_card_names(
    verb: tuple[str, ...], steer: Steer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(name: str, **_: object) -> None:
        raise BadInput(f"asked for {name}.")

    monkeypatch.setattr("steering.model.models.load_model", loaded)
    monkeypatch.setattr("experiments.studies.mode.load_model", loaded)
    code, _, said = steer(*verb)
    assert code == 2 and said.strip() == "Error: asked for smollm2."


def test_an_autoencoder_whose_card_names_no_model_asks_for_one(
    tmp_path: Path, steer: Steer, shipped: Dictionary
) -> None:
    shipped.sae.save_model(tmp_path / "bare")
    code, _, said = steer("sae", "dashboard", tmp_path / "bare", "--out", tmp_path / "shown")
    assert code == 2 and "does not say on which model it was trained; name it with --model" in said


def test_texts_of_the_built_in_task_are_for_models_that_read_its_words(base: LoadedModel) -> None:
    other = tiny("llama")
    for read in (lambda: texts_of(other, None, 1), lambda: held_back_texts(other, None)):
        with pytest.raises(BadInput, match="give --texts FILE"):
            read()
    assert texts_of(base, None, 1)
