"""Dashboards against a computation that holds everything in memory, on a tiny model and random autoencoders."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sae_lens import StandardSAE, StandardSAEConfig, TopKSAE, TopKSAEConfig

from saes import dashboard as module
from saes.activity import Coactivation
from saes.corpus import Encoded, LabelledSpan, Text
from saes.dashboard import Dashboard, build_dashboard, corpus_digest
from saes.dictionary import Dictionary
from saes.directions import decoder_neighbours
from saes.examples import BANDS, TOP, Sampler
from steering.errors import BadInput
from steering.extraction.lens import lens_logits
from steering.model.capture import capture
from steering.model.sites import Site
from tests.tiny import VOCABULARY, WIDTH, WORDS, tiny

LATENTS, SITE = 24, Site(1)
BEFORE, AFTER, EXAMPLES, STRONGEST = 3, 2, 3, 5


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The matrices are so small that several threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def dictionary(kind: str, seed: int = 0) -> Dictionary:
    make: Any = StandardSAE if kind == "standard" else TopKSAE
    config = StandardSAEConfig(WIDTH, LATENTS) if kind == "standard" else TopKSAEConfig(WIDTH, LATENTS, k=4)
    torch.manual_seed(seed)
    sae = make(config)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.5)
        sae.b_enc[5] = -1000.0  # a dead latent
    return Dictionary(kind, sae, SITE)


@cache
def texts() -> tuple[Text, ...]:
    rng = random.Random(0)
    found = []
    for i in range(40):
        ids = (1, *(rng.randrange(8, 14) for _ in range(rng.randint(9, 30))), 2)
        spans = [LabelledSpan("b", 4, 7), LabelledSpan("a", 6, 9)][: i % 3]
        found.append(Text(ids, rng.randint(1, 8), tuple(spans), (None, True, False)[i % 3]))
    return (*found, found[0], found[0])  # whole texts that occur again


def naive(kind: str) -> tuple[list[torch.Tensor], list[list[int]]]:
    """Latents of each text, read alone, and the positions that count."""
    latents, counted = [], []
    for text in texts():
        (captured,) = capture(tiny("llama"), [text.ids], [SITE])
        latents.append(dictionary(kind).encode(captured.values[SITE][0]))
        counted.append([p for p, token in enumerate(text.ids) if token > 2])
    return latents, counted


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Dashboard]:
    @cache
    def build(kind: str) -> Dashboard:
        folder = tmp_path_factory.mktemp(kind) / "dashboard"
        return build_dashboard(
            tiny("llama"), dictionary(kind), texts(), folder, examples=EXAMPLES, strongest=STRONGEST, before=BEFORE, after=AFTER,
            neighbours=4, tokens=5, batch_size=7,
        )  # fmt: skip

    return build


Built = Callable[[str], Dashboard]
KINDS = ("standard", "topk")


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_equals_the_one_computed_in_memory(kind: str, built: Built) -> None:
    found = built(kind)
    latents, counted = naive(kind)
    z = torch.cat([f[p] for f, p in zip(latents, counted, strict=True)]).double()
    where = [(i, p) for i, places in enumerate(counted) for p in places]
    assert found.facts["tokens"] == len(z)
    table = found.table()
    assert list(table["latent"]) == list(range(LATENTS))
    assert np.allclose(table["density"], (z > 0).double().mean(0))
    assert np.allclose(table["peak"], z.amax(0), rtol=1e-5)
    assert np.allclose(table["mean"], z.mean(0), rtol=1e-4)
    firing = (z > 0).numpy()
    with np.errstate(invalid="ignore"):
        phi = np.nan_to_num(np.corrcoef(firing.T.astype(float)))
    np.fill_diagonal(phi, 0)
    labels = sorted({s.label for t in texts() for s in t.spans})
    assert found.facts["labels"] == labels == ["a", "b"]
    for latent in range(LATENTS):
        row = found.feature(latent)
        values = z[:, latent][z[:, latent] > 0]
        assert row["active"] == len(values)
        assert row["mean_active"] == pytest.approx(float(values.mean()) if len(values) else 0.0, rel=1e-4)
        if len(values):
            assert (
                row["histogram"] == np.histogram(values.float().numpy(), np.array(row["histogram_edges"]))[0].tolist()
            )
            assert row["histogram"][0] > 0 < row["histogram"][-1] and sum(row["histogram"]) == len(values)
            ratios = np.diff(np.log2(row["histogram_edges"]))
            assert np.allclose(ratios, 0.5, atol=1e-4)
        parts, groups = [0] * 10, defaultdict(list)
        for k, (i, p) in enumerate(where):
            text, value = texts()[i], float(z[k, latent])
            if p >= text.prompt:
                parts[(p - text.prompt) * 10 // (len(text.ids) - text.prompt)] += value > 0
                groups[text.correct].append(value > 0)
            for span in text.spans:
                if span.start <= p < span.end:
                    groups[span.label].append(value)
        assert row["position_active"] == parts
        assert row["rate_right"] == pytest.approx(np.mean(groups[True]))
        assert row["rate_wrong"] == pytest.approx(np.mean(groups[False]))
        for place, label in enumerate(labels):
            active = sum(v > 0 for v in groups[label])
            assert row["label_active"][place] == active
            assert row["label_share"][place] == pytest.approx(active / max(len(values), 1), rel=1e-5)
            share = sum(groups[label]) / (float(values.sum()) or 1.0)
            assert row["label_activation_share"][place] == pytest.approx(share, rel=1e-4)
        best = [int(j) for j in np.argsort(-phi[latent], kind="stable")[:4] if phi[latent, j] > 1e-9]
        assert np.allclose(row["coactive_phi"], phi[latent, best], atol=1e-5)
        assert row["coactive_tokens"] == [int((firing[:, latent] & firing[:, j]).sum()) for j in row["coactive"]]
    assert found.facts["dead"] == int((~firing.any(0)).sum()) >= 1
    assert sum(found.facts["position_tokens"]) == sum(p >= texts()[i].prompt for i, p in where)
    for place, correct in (("right_tokens", True), ("wrong_tokens", False)):
        assert found.facts[place] == sum(texts()[i].correct is correct and p >= texts()[i].prompt for i, p in where)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_and_neighbours_are_those_of_the_decoder(kind: str, built: Built) -> None:
    found, decoder = built(kind), dictionary(kind).decoder
    unit = decoder / decoder.norm(dim=-1, keepdim=True)
    for latent in (0, 5, LATENTS - 1):
        row = found.feature(latent)
        logits = lens_logits(tiny("llama"), decoder[latent])
        for side, expected in (("top", logits.topk(5)), ("bottom", logits.topk(5, largest=False))):
            assert row[f"{side}_ids"] == expected.indices.tolist()
            assert np.allclose(row[f"{side}_logits"], expected.values, atol=1e-3)
            assert row[f"{side}_tokens"] == [WORDS[i] for i in row[f"{side}_ids"]]
        cosine = unit @ unit[latent]
        cosine[latent] = -2
        assert row["neighbours"] == cosine.topk(4).indices.tolist()
        assert np.allclose(row["neighbour_cosines"], cosine.topk(4).values, atol=1e-5)
    places, values = decoder_neighbours(decoder, 4, chunk=5)
    assert [p.tolist() for p in places] == [found.feature(latent)["neighbours"] for latent in range(LATENTS)]
    assert values.shape == (LATENTS, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_examples_hold_the_right_windows_of_every_band(kind: str, built: Built) -> None:
    found = built(kind)
    latents, counted = naive(kind)
    for latent in range(LATENTS):
        events = [
            (float(latents[i][p, latent]), window(i, p), i, p)
            for i, places in enumerate(counted)
            for p in places
            if latents[i][p, latent] > 0
        ]
        shown = found.examples(latent)
        if not events:
            assert not shown
            continue
        peak = np.floor(np.log2(max(v for v, *_ in events)))
        strongest: dict[Any, float] = {}
        for value, tokens, _, _ in events:
            strongest[tokens] = max(value, strongest.get(tokens, 0.0))
        top = [one for one in shown if one.band == TOP]
        assert np.allclose(
            [one.activation for one in top], sorted(strongest.values(), reverse=True)[:STRONGEST], rtol=1e-4
        )
        for band in range(1, BANDS + 1):
            inside = [e for e in events if min(peak - np.floor(np.log2(e[0])) + 1, BANDS) == band]
            kept = [one for one in shown if one.band == band]
            assert len(kept) == min(EXAMPLES, len({tokens for _, tokens, _, _ in inside}))
            for one in kept:
                same = [e for e in inside if e[1] == window(one.text, one.position)]
                assert one.count == len(same) and (one.text, one.position) == same[0][2:]
                assert one.activation == pytest.approx(same[0][0], rel=1e-4)
                assert one.low <= one.activation and one.low == (0 if band == BANDS else 2.0 ** (peak + 1 - band))
        for one in shown:
            text = texts()[one.text]
            assert one.start == max(0, one.position - BEFORE) and one.start + one.active == one.position
            assert one.ids == text.ids[one.start : one.position + AFTER + 1]
            assert one.tokens == tuple(WORDS[i] for i in one.ids)
            assert one.prompt == sum(p < text.prompt for p in range(one.start, one.start + len(one.ids)))
            along = [
                float(latents[one.text][p, latent]) * (text.ids[p] > 2)
                for p in range(one.start, one.start + len(one.ids))
            ]
            assert np.allclose(one.activations, along, atol=1e-3, rtol=1e-4)
            assert one.activations[one.active] == pytest.approx(one.activation)
    repeated = [one for latent in range(LATENTS) for one in found.examples(latent) if one.count >= 3]
    assert repeated, "the texts that occur three times are folded"


def window(number: int, position: int) -> tuple[int, ...]:
    ids = (-1,) * BEFORE + texts()[number].ids + (-1,) * AFTER
    return ids[position : position + BEFORE + 1 + AFTER]


def test_batches_do_not_change_a_dashboard_and_two_runs_give_equal_files(tmp_path: Path) -> None:
    options: dict[str, Any] = {"examples": EXAMPLES, "before": BEFORE, "after": AFTER, "neighbours": 4, "tokens": 5}
    runs = [
        build_dashboard(tiny("llama"), dictionary("topk"), texts(), tmp_path / str(i), batch_size=size, **options)
        for i, size in enumerate((7, 7, 42))
    ]
    for name in ("features.parquet", "examples.parquet", "dashboard.json"):
        assert (runs[0].folder / name).read_bytes() == (runs[1].folder / name).read_bytes()
    for latent in range(LATENTS):
        one, other = ([e for e in run.examples(latent) if e.band != TOP] for run in (runs[0], runs[2]))
        assert [(e.band, e.text, e.position, e.count) for e in one] == [
            (e.band, e.text, e.position, e.count) for e in other
        ]
        assert runs[0].feature(latent)["coactive"] == runs[2].feature(latent)["coactive"]
    other_seed = build_dashboard(tiny("llama"), dictionary("topk"), texts(), tmp_path / "s", seed=1, **options)
    assert any(
        [e.ids for e in other_seed.examples(n) if e.band] != [e.ids for e in runs[0].examples(n) if e.band]
        for n in range(LATENTS)
    )


def test_what_is_held_does_not_grow_with_the_corpus() -> None:
    rng = np.random.default_rng(0)
    sampler = Sampler(LATENTS, EXAMPLES, strongest=STRONGEST, before=BEFORE, after=AFTER)
    most = LATENTS * (EXAMPLES * BANDS + STRONGEST)
    sizes = []
    for step in range(30):
        rows = [Text(tuple(rng.integers(3, VOCABULARY, 40).tolist())) for _ in range(4)]
        z = np.exp(rng.normal(size=(4, 40, LATENTS)) * 2 + step / 10).astype(np.float32)
        sampler.add(z * (rng.random(z.shape) < 0.3), range(4), rows)
        sizes.append(sampler.held)
        assert sampler.held <= most
    assert sizes[0] > LATENTS * EXAMPLES and len(sampler.finished().latent) <= most
    together = Coactivation(LATENTS, most=100)
    for _ in range(5):
        z = torch.rand(4, 40, LATENTS) - 0.5
        together.add(Encoded((0, 1, 2, 3), z.clamp_min(0), torch.ones(4, 40, dtype=torch.bool), z))
        assert together.tokens == 100


def test_every_window_of_a_band_is_as_likely_as_any_other() -> None:
    rows = [Text(tuple([3 + i] * 3)) for i in range(20)]
    z = np.zeros((20, 3, 1), np.float32)
    z[:, 1] = 1.5
    drawn = np.zeros(20)
    for seed in range(400):
        sampler = Sampler(1, 4, before=1, after=1, seed=seed)
        sampler.add(z[:10], range(10), rows)
        sampler.add(z[10:], range(10, 20), rows)
        found = sampler.finished()
        drawn[found.text[found.band == 1]] += 1
    assert drawn.sum() == 1600
    assert ((drawn - 80) ** 2 / 80).sum() < 45, "chi-squared with 19 degrees of freedom: 45 is beyond 1 in 1000"


def test_a_sample_of_tokens_estimates_coactivation() -> None:
    generator = torch.Generator().manual_seed(0)
    shared = torch.rand(4000, 1, generator=generator) < 0.3
    z = torch.where(torch.cat([shared, shared, torch.rand(4000, 1, generator=generator) < 0.3], 1), 1.0, 0.0)
    together = Coactivation(3, most=1000, seed=1)
    for part in z.split(400):
        together.add(Encoded((0,), part[None], torch.ones(1, 400, dtype=torch.bool), part[None]))
    latents, phi, both = together.neighbours(1)
    assert latents[0].tolist() == [1] and latents[1].tolist() == [0] and phi[0][0] == pytest.approx(1.0)
    assert 250 < both[0][0] < 350


def test_an_interrupted_build_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "d"

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_examples", stop)
        with pytest.raises(KeyboardInterrupt):
            build_dashboard(tiny("llama"), dictionary("topk"), texts()[:4], folder)
    assert list(tmp_path.iterdir()) == []
    first = build_dashboard(tiny("llama"), dictionary("topk"), texts()[:4], folder)
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_examples", stop)
        with pytest.raises(KeyboardInterrupt):
            build_dashboard(tiny("llama"), dictionary("topk"), texts(), folder)
    assert Dashboard.open(folder).facts == first.facts and list(tmp_path.iterdir()) == [folder]
    again = build_dashboard(tiny("llama"), dictionary("topk"), texts(), folder)
    assert again.facts["texts"] == len(texts()) and list(tmp_path.iterdir()) == [folder]


def test_what_does_not_belong_together_is_refused(built: Built, tmp_path: Path) -> None:
    folder = built("topk").folder
    assert Dashboard.open(folder, dictionary("topk")).facts["corpus"] == corpus_digest(texts())
    assert Dashboard.open(folder, dictionary("topk").digest).latents == LATENTS
    with pytest.raises(BadInput, match="is of autoencoder topk"):
        Dashboard.open(folder, dictionary("topk", seed=1))
    with pytest.raises(BadInput, match="No dashboard at"):
        Dashboard.open(tmp_path)
    for latent in (-1, LATENTS):
        with pytest.raises(BadInput, match=f"Latent {latent} does not exist"):
            Dashboard.open(folder).feature(latent)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BadInput, match="not a dashboard"):
        build_dashboard(tiny("llama"), dictionary("topk"), texts(), tmp_path)
    with pytest.raises(BadInput, match="examples 0 must be at least 1"):
        build_dashboard(tiny("llama"), dictionary("topk"), texts(), tmp_path / "d", examples=0)
    with pytest.raises(BadInput, match="special tokens only"):
        build_dashboard(tiny("llama"), dictionary("topk"), [Text((1, 2))], tmp_path / "d")
    assert corpus_digest(texts()) != corpus_digest(texts()[::-1])
    (tmp_path / "dashboard.json").write_text("{")
    with pytest.raises(BadInput, match="corrupt or cut short"):
        Dashboard.open(tmp_path)
    (tmp_path / "dashboard.json").write_text("{}")
    with pytest.raises(BadInput, match="not a dashboard of format"):
        Dashboard.open(tmp_path)
