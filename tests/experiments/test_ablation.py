"""Ablations: what is edited, beside which controls, and the numbers told of it, against the rows counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sae_lens import StandardSAE, StandardSAEConfig

from experiments.evaluation.spec import Generating
from experiments.evaluation.stored_vectors import run_vectors
from experiments.report.figures.ablations import cumulative, dose_response, forest
from experiments.store.runs import Run, Store
from experiments.studies.ablation import (
    AblationSpec,
    ArmFacts,
    ablation_arms,
    control_groups,
    cumulative_groups,
    parse_operation,
    run_ablation,
)
from experiments.studies.effects import behaviour_changes, effects, flipped
from experiments.studies.texts import training_texts
from saes.dictionary import Dictionary
from saes.statistics import LatentStatistics, latent_statistics
from steering.errors import BadInput
from steering.model.models import load_model
from steering.model.sites import Site
from steering.vector.features import Features

MODEL = "builtin:base"
SITE = Site(2)


@pytest.fixture(scope="module")
def dictionary() -> Dictionary:
    model = load_model(MODEL)
    torch.manual_seed(0)
    sae = StandardSAE(StandardSAEConfig(d_in=model.d_model, d_sae=96, device="cpu"))
    with torch.no_grad():
        sae.W_enc.copy_(torch.randn(sae.W_enc.shape) * 0.2)
        sae.W_dec.copy_(torch.randn(sae.W_dec.shape) * 0.3)
    return Dictionary("random", sae, SITE)


@pytest.fixture(scope="module")
def statistics(dictionary: Dictionary) -> LatentStatistics:
    model = load_model(MODEL)
    return latent_statistics(model, dictionary, training_texts(model, 12))


@pytest.fixture(scope="module")
def spec() -> AblationSpec:
    return AblationSpec(
        model=MODEL, form="think", splits={"standard-test": 14, "hard-dev": 6}, features=((3,), (3, 8, 20)),
        operations=("ablate", "scale 2f", "scale 4f"), scopes=("all",), controls=2, directions=1,
        generation=Generating(max_new_tokens=90),
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(
    spec: AblationSpec, dictionary: Dictionary, statistics: LatentStatistics, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    return run_ablation(spec, Store(tmp_path_factory.mktemp("ablation")), dictionary, statistics)


def test_every_target_stands_beside_its_controls(
    spec: AblationSpec, dictionary: Dictionary, statistics: LatentStatistics
) -> None:
    arms, used = ablation_arms(spec, dictionary, statistics, load_model(MODEL))
    facts = [f for arm in arms if (f := ArmFacts.parse(arm.name)) is not None]
    assert all(ArmFacts.parse(f.name) == f for f in facts) and len({a.name for a in arms}) == len(arms)
    for group in spec.features:
        for operation in spec.operations:
            kinds = [f.kind.split()[0] for f in facts if f.latents == group and f.operation == operation]
            assert sorted(kinds) == ["control", "control", "direction", "target"]
        assert [f.operation for f in facts if f.latents == group and f.kind == "splice"] == ["scale 1f"]
    for fact in facts:
        if fact.kind.startswith("control"):
            others = tuple(int(n) for n in fact.kind.split()[1].split("+"))
            assert len(others) == len(fact.latents) and not set(others) & {3, 8, 20}
    assert any(isinstance(v, Features) and v.latents == (3, 8, 20) for v in used.values())


def test_reading_latents_and_leaving_them_alone_changes_nothing(run: Run) -> None:
    texts = run.table(columns=["arm", "item", "text"]).to_pandas().pivot(index="item", columns="arm", values="text")
    splices = [name for name in texts.columns if name.endswith("|splice")]
    assert len(splices) == 2
    for name in splices:
        assert (texts[name] == texts["unsteered"]).all()
    assert any((texts[name] != texts["unsteered"]).any() for name in texts.columns if name.endswith("|target"))


def test_random_directions_are_as_large_as_the_edit_they_stand_beside(run: Run, spec: AblationSpec) -> None:
    frame = run.table(columns=["arm", "edit_ratio", "edits_planned"], split="standard-test").to_pandas()
    frame = frame[frame["edits_planned"] > 0]
    sizes = {arm: own["edit_ratio"].map(sum).sum() / own["edits_planned"].sum() for arm, own in frame.groupby("arm")}
    for group in ("3", "3+8+20"):
        target, turned = sizes[f"{group}|ablate|all|target"], sizes[f"{group}|ablate|all|direction 0"]
        assert turned == pytest.approx(target, rel=0.35), "measured on the first tokens of the same items"


def test_effects_are_the_counts_of_the_rows(run: Run, spec: AblationSpec) -> None:
    table = effects(run)
    rows = run.table(columns=["arm", "split", "item", "correct", "token_ids"]).to_pandas()
    assert len(table) == 2 * (len(run.manifest.arms) - 1)
    for line in table.to_dict("records"):
        own = rows[(rows["split"] == line["split"])].set_index(["arm", "item"])
        after, before = own.loc[line["arm"]], own.loc["unsteered"]
        after = after.loc[before.index]
        assert line["n"] == len(before) == spec.splits[line["split"]]
        assert line["accuracy"] == pytest.approx(after["correct"].mean())
        assert line["difference"] == pytest.approx(after["correct"].mean() - before["correct"].mean())
        assert line["helped"] == int((after["correct"] & ~before["correct"]).sum())
        assert line["hurt"] == int((~after["correct"] & before["correct"]).sum())
        lengths = after["token_ids"].map(len).mean() - before["token_ids"].map(len).mean()
        assert line["tokens"] == pytest.approx(lengths)
        assert line["low"] <= line["difference"] <= line["high"]
        assert np.isnan(line["p_holm"]) == (line["kind"] != "target")
    targets = table[table["kind"] == "target"]
    assert (targets["p_holm"] >= targets["p"] - 1e-12).all() and targets["against"].notna().all()
    one = targets.iloc[0]
    siblings = table[(table["split"] == one["split"]) & (table["latents"] == one["latents"]) & (table["kind"] == "control")
                     & (table["operation"] == one["operation"])]  # fmt: skip
    assert one["against"] == pytest.approx(one["accuracy"] - siblings["accuracy"].mean())


def test_flipped_items_are_those_counted(run: Run) -> None:
    table = effects(run)
    line = table[table["kind"] == "target"].sort_values("hurt").iloc[-1]
    assert line["hurt"] > 0, "some edit of this test must do harm for it to test anything"
    found = flipped(run, line["arm"], line["split"])
    assert (found["change"] == "hurt").sum() == line["hurt"] and (found["change"] == "helped").sum() == line["helped"]
    assert (found["text_unsteered"] != found["text_steered"]).all()


def test_behaviours_change_by_the_labelled_spans(run: Run) -> None:
    table = behaviour_changes(run)
    assert {"proposing", "computing"} <= set(table["label"])
    line = table[(table["label"] == "computing") & table["arm"].str.endswith("target")].iloc[0]
    rows = run.table(columns=["arm", "labels", "token_ids"], split=line["split"]).to_pandas()
    own = rows[rows["arm"] == line["arm"]]
    rate = np.mean(
        [100 * sum(s["label"] == "computing" for s in r.labels) / len(r.token_ids) for r in own.itertuples()]
    )
    assert line["rate"] == pytest.approx(rate)


def test_figures_show_every_arm_with_its_interval(run: Run) -> None:
    table = effects(run)
    figure = forest(table, "standard-test")
    shown = sum(len(trace.x) for trace in figure.data)
    assert shown == len(table[table["split"] == "standard-test"])
    assert all(trace.error_x.array is not None for trace in figure.data)
    doses = dose_response(table, "standard-test")
    assert {x for trace in doses.data for x in trace.x} == {1.0, 2.0, 4.0} - {1.0}
    curve = cumulative(table[table["operation"] == "ablate"])
    assert list(curve.data[0].x) == [1, 3]
    with pytest.raises(BadInput, match="no split"):
        forest(table, "nowhere")
    with pytest.raises(BadInput, match="dose"):
        dose_response(table[table["operation"] == "ablate"])


def test_an_ablation_resumes_and_keeps_its_features(
    run: Run, spec: AblationSpec, dictionary: Dictionary, statistics: LatentStatistics
) -> None:
    shards = {p.name: p.stat().st_mtime_ns for p in run.shards()}
    again = run_ablation(spec, Store(run.folder.parent), dictionary, statistics)
    assert again.manifest.run_id == run.manifest.run_id
    assert {p.name: p.stat().st_mtime_ns for p in again.shards()} == shards
    stored = run_vectors(run)
    assert any(isinstance(v, Features) and v.latents == (3,) for v in stored.values())
    known = [v for v in run.manifest.facts["vectors"].values() if "latents" in v]
    assert known and {v["autoencoder"] for v in known} == {dictionary.name}


def test_mistakes_are_refused_before_the_model_runs(
    spec: AblationSpec, dictionary: Dictionary, statistics: LatentStatistics
) -> None:
    model = load_model(MODEL)
    with pytest.raises(BadInput, match="Latent 500"):
        ablation_arms(spec.model_copy(update={"features": ((500,),)}), dictionary, statistics, model)
    dead = LatentStatistics(
        statistics.density.index_fill(0, torch.tensor([3]), 0.0), statistics.mean, statistics.peak, statistics.sizes,
        statistics.tokens, statistics.dictionary,
    )  # fmt: skip
    with pytest.raises(BadInput, match="never active"):
        ablation_arms(spec, dictionary, dead, model)
    for wrong in ("rotate 30deg", "ablate 2p", "scale"):
        with pytest.raises(BadInput):
            parse_operation(wrong)
    with pytest.raises(ValueError, match="each latent once"):
        AblationSpec(features=((1, 1),))
    with pytest.raises(BadInput, match="group of 5"):
        cumulative_groups((1, 2, 3), (1, 5))


def test_no_latent_stands_in_two_control_groups() -> None:
    """On the shipped statistics, where drawing each group by itself gives some twice."""
    from experiments.studies.autoencoders import stored_statistics

    found = stored_statistics("builtin:base")
    for latent in (57, 183, 464, 729):
        groups = control_groups(found, (latent,), 5, [latent], 0)
        assert len({member for group in groups for member in group}) == 5, latent
    wide = control_groups(found, (464, 57, 183, 355), 5, (464, 57, 183, 355), 0)
    assert len({member for group in wide for member in group}) == 20
    assert control_groups(found, (183,), 5, [183], 0) == control_groups(found, (183,), 5, [183], 0)


def test_control_groups_share_no_latent_with_targets(statistics: LatentStatistics) -> None:
    groups = control_groups(statistics, (3, 8), 4, (3, 8, 20), seed=0)
    assert len(groups) == 4 and all(len(set(g)) == 2 and not set(g) & {3, 8, 20} for g in groups)
    assert len(set(groups)) > 1
