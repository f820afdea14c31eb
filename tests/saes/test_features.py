"""Edits of latents through plans against SAELens' own encode and decode."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import (
    GatedSAE,
    GatedSAEConfig,
    JumpReLUSAE,
    JumpReLUSAEConfig,
    StandardSAE,
    StandardSAEConfig,
    TopKSAE,
    TopKSAEConfig,
)

from saes.latents import features_of
from steering.compile.feature_formula import apply_latents
from steering.compile.slots import LatentSlot, make_slot
from steering.engine.forced import ForcedText, forced_divergence
from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput
from steering.model.hooks import hooked
from steering.model.models import LoadedModel
from steering.model.sites import Site
from steering.plan.expression import expression_of, parse_plan
from steering.plan.plan import Dose, Intervention, Plan, Span
from steering.vector.features import Features, load_stored
from tests.naive import spans_position
from tests.tiny import VOCABULARY, WIDTH, plan, tiny, vector

LATENTS = 40
SITE = Site(1)
KINDS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "standard": (StandardSAE, StandardSAEConfig, {}),
    "standard, input not centred": (StandardSAE, StandardSAEConfig, {"apply_b_dec_to_input": False}),
    "standard, rescaled": (StandardSAE, StandardSAEConfig, {"normalize_activations": "constant_norm_rescale"}),
    "standard, layer norm": (StandardSAE, StandardSAEConfig, {"normalize_activations": "layer_norm"}),
    "jumprelu": (JumpReLUSAE, JumpReLUSAEConfig, {}),
    "gated": (GatedSAE, GatedSAEConfig, {}),
    "topk": (TopKSAE, TopKSAEConfig, {"k": 6}),
    "topk, decoder norms": (TopKSAE, TopKSAEConfig, {"k": 6, "rescale_acts_by_decoder_norm": True}),
}
CHOSEN = (3, 17, 30)
PEAKS, MEANS = torch.tensor([4.0, 5.0, 6.0]), torch.tensor([0.5, 1.0, 1.5])
EDITS: dict[str, tuple[str, Dose | None]] = {
    "add": ("add", Dose(1.5, "raw")),
    "ablate": ("ablate", None),
    "mean": ("mean", None),
    "clamp": ("clamp", Dose(2.0, "raw")),
    "clamp at peaks": ("clamp", Dose(0.5, "peak")),
    "cap": ("cap", Dose(1.0, "raw")),
    "floor": ("floor", Dose(3.0, "raw")),
    "scale": ("scale", Dose(3.0, "factor")),
    "raise": ("raise", Dose(4.0, "factor")),
}


def random_sae(kind: str) -> Any:
    make, config, options = KINDS[kind]
    torch.manual_seed(1)
    sae = make(config(d_in=WIDTH, d_sae=LATENTS, device="cpu", **options))
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.5)
        if kind == "jumprelu":
            sae.threshold.copy_(torch.rand(LATENTS))
    return sae.eval()


def pre_activations(sae: Any, x: torch.Tensor) -> torch.Tensor:
    read = sae.process_sae_in(x)
    if sae.cfg.architecture() == "gated":
        return read @ sae.W_enc + sae.b_gate
    u = read @ sae.W_enc + sae.b_enc
    return u * sae.W_dec.norm(dim=-1) if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False) else u


def changed(sae: Any, x: torch.Tensor, operation: str, dose: Dose | None, chosen: tuple[int, ...]) -> torch.Tensor:
    """decode(changed) + error, written out."""
    features = sae.encode(x)
    error = x - sae.decode(features)
    sae.encode(x)  # decode forgets the scale of its input
    new = features.clone()
    if operation == "raise":
        assert dose is not None
        u = pre_activations(sae, x)
        lift = dose.amount * u[..., list(chosen)].abs().mean(-1, keepdim=True)
        u[..., list(chosen)] += lift
        kind = sae.cfg.architecture()
        if kind == "gated":  # both of its paths are raised
            size = sae.process_sae_in(x) @ (sae.W_enc * sae.r_mag.exp()) + sae.b_mag
            sae.encode(x)
            size[..., list(chosen)] += lift
            new = torch.where(u > 0, size.relu(), 0.0)
        else:
            new = sae.activation_fn(u) if kind != "jumprelu" else torch.where(u > sae.threshold, u.relu(), 0.0)
    else:
        for place, latent in enumerate(chosen):
            f = features[..., latent]
            c = 0.0 if dose is None else dose.amount * (float(PEAKS[place]) if dose.unit == "peak" else 1.0)
            new[..., latent] = {
                "add": f + c,
                "ablate": 0 * f,
                "mean": 0 * f + float(MEANS[place]),
                "clamp": 0 * f + c,
                "cap": f.clamp_max(c),
                "floor": f.clamp_min(c),
                "scale": c * f,
            }[operation]
    return sae.decode(new) + error


def intervention(sae: Any, edit: str, span: str = "all", chosen: tuple[int, ...] = CHOSEN) -> Intervention:
    operation, dose = EDITS[edit]
    count = len(chosen)
    features = features_of(sae, chosen, SITE, peaks=PEAKS[:count], means=MEANS[:count])
    return Intervention(operation, features, Span.parse(span), dose)  # type: ignore[arg-type]


@torch.no_grad()
def naive(model: LoadedModel, sae: Any, edit: str, span: str, prompt: tuple[int, ...], new: int) -> list[int]:
    ids = list(prompt)
    for _ in range(new):

        def edited(x: torch.Tensor) -> torch.Tensor:
            out, whole = x.clone(), changed(sae, x[0], *EDITS[edit], CHOSEN)
            for position in range(len(ids)):
                if spans_position(Span.parse(span), position, ids, len(prompt), model):
                    out[0, position] = whole[position]
            return out

        with hooked(model.layout, {SITE: edited}):
            ids.append(int(model.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] in model.eos_ids:
            break
    return ids[len(prompt) :]


PAIRS = [(kind, edit) for kind in KINDS for edit in EDITS]


@pytest.mark.parametrize(("kind", "edit"), PAIRS)
def test_an_edit_is_decode_of_the_changed_latents_plus_error(kind: str, edit: str) -> None:
    sae, model = random_sae(kind), tiny("llama")
    slot = make_slot(SITE, [intervention(sae, edit)], model)
    assert isinstance(slot, LatentSlot)
    x = 2.0 * torch.randn(3, 20, WIDTH)
    mask = torch.ones(3, 20, dtype=torch.bool)
    mask[1, 5:] = False
    with torch.no_grad():
        found, ratio = apply_latents(x, slot.reader, slot.rows(torch.tensor([1, 1, 0])), mask, None)
        expected = changed(sae, x, *EDITS[edit], CHOSEN)
    assert torch.allclose(found[0], expected[0], atol=1e-5, rtol=1e-5)
    assert torch.equal(found[1, 5:], x[1, 5:]) and bool((ratio[1, 5:] == 0).all())
    assert torch.equal(found[2], x[2]), "a row that the slot does not touch keeps its activations bit for bit"
    size = (expected[0] - x[0]).norm(dim=-1) / x[0].norm(dim=-1)
    assert torch.allclose(ratio[0], size, atol=1e-4)


def test_a_schedule_multiplies_the_change() -> None:
    sae, x = random_sae("standard"), torch.randn(2, 9, WIDTH)
    slot, share = make_slot(SITE, [intervention(sae, "clamp")], tiny("llama")), torch.rand(2, 9)
    assert isinstance(slot, LatentSlot)
    with torch.no_grad():
        mask = torch.ones(2, 9, dtype=torch.bool)
        found, _ = apply_latents(x, slot.reader, slot.rows(torch.tensor([1, 1])), mask, share)
        whole = changed(sae, x, *EDITS["clamp"], CHOSEN)
    assert torch.allclose(found, x + share[..., None] * (whole - x), atol=1e-5)


@pytest.mark.parametrize("kind", ["standard", "jumprelu", "topk", "standard, layer norm"])
def test_rows_of_latent_plans_in_one_batch_equal_naive_runs(kind: str) -> None:
    model, sae, rng = tiny("llama"), random_sae(kind), random.Random(0)
    rows, names = [], []
    for edit in EDITS:
        for span in ("all", "generated", "last_prompt"):
            prompt = (1, *(rng.randrange(8, VOCABULARY) for _ in range(rng.randint(2, 9))))
            rows.append(Row(prompt, Plan((intervention(sae, edit, span),))))
            names.append((edit, span))
    rows += [
        Row((1, 20, 21)),
        Row((1, 20, 21), plan(amount=3.0)),
        Row((1, 20, 21), plan("rotate", amount=30.0, unit="degrees")),
    ]
    found = generate(model, rows, GenerationSettings(max_new_tokens=8), batch_size=7)
    for row, name, one in zip(rows, names, found, strict=False):
        assert list(one.token_ids) == naive(model, sae, *name, row.prompt_ids, 8), name
        assert one.receipt.fired == one.receipt.planned
    alone = [generate(model, [row], GenerationSettings(max_new_tokens=8))[0] for row in rows[-3:]]
    assert [g.token_ids for g in found[-3:]] == [g.token_ids for g in alone]


def test_ablation_with_the_error_term_changes_the_output() -> None:
    """SAELens: an error term computed after the edit took the edit back, so that ablations did nothing."""
    model, sae, prompt = tiny("llama"), random_sae("jumprelu"), (1, *range(20, 32))
    with torch.no_grad():
        seen: list[torch.Tensor] = []
        with hooked(model.layout, {SITE: lambda x: seen.append(x[0].clone())}):
            model.model(input_ids=torch.tensor([prompt]))
        busiest = int((sae.encode(seen[0]) > 0).float().mean(0).argmax())
    plans = [
        Plan((Intervention(operation, features_of(sae, (busiest,), SITE), Span("all"), dose),))  # type: ignore[arg-type]
        for operation, dose in (("ablate", None), ("scale", Dose(1.0, "factor")))
    ]
    bare, ablated, kept = (
        forced_divergence(model, [ForcedText(prompt[:2], prompt[2:], p)])[0].logprob for p in (Plan(), *plans)
    )
    assert max(abs(a - b) for a, b in zip(bare, ablated, strict=True)) > 1e-2
    assert kept == pytest.approx(bare, abs=1e-4), "a latent left at its value changes nothing"


def test_a_latent_is_added_where_the_autoencoder_has_a_decoder_bias() -> None:
    """lm-eval's steered models: adding a feature of an autoencoder with a bias raised an error."""
    model, sae, prompt = tiny("llama"), random_sae("standard"), (1, 20, 21, 22)
    assert float(sae.b_dec.detach().norm()) > 1
    (found,) = generate(model, [Row(prompt, Plan((intervention(sae, "add"),)))], GenerationSettings(max_new_tokens=8))
    assert list(found.token_ids) == naive(model, sae, "add", "all", prompt, 8)
    (bare,) = generate(model, [Row(prompt)], GenerationSettings(max_new_tokens=8))
    assert bare.token_ids != found.token_ids


def test_all_chosen_latents_are_read_before_any_is_written() -> None:
    sae, model = random_sae("standard"), tiny("llama")
    prompt = (1, 20, 21, 22, 23)
    together = Plan((intervention(sae, "ablate"),))
    one_by_one = Plan(tuple(intervention(sae, "ablate", chosen=(latent,)) for latent in CHOSEN))
    found = generate(model, [Row(prompt, together), Row(prompt, one_by_one)], GenerationSettings(max_new_tokens=4))
    assert list(found[0].token_ids) == naive(model, sae, "ablate", "all", prompt, 4)
    assert found[0].receipt.ratio != found[1].receipt.ratio
    assert found[1].receipt.fired == 3 * found[0].receipt.fired


def test_features_and_their_plans_read_back(tmp_path: Path) -> None:
    for kind in KINDS:
        used = intervention(random_sae(kind), "clamp at peaks").vector
        assert isinstance(used, Features)
        path = used.save(tmp_path / "f.safetensors")
        back = Features.load(path)
        assert back.digest == used.digest and isinstance(load_stored(path), Features)
        made = Plan((Intervention("clamp", used, Span.parse("all"), Dose(0.5, "peak")),))
        assert Plan.from_yaml(made.to_yaml(), {back.digest: back}).digest == made.digest
        assert parse_plan(expression_of(made, {used.digest: str(path)})).digest == made.digest
    assert isinstance(load_stored(vector(1).save(tmp_path / "v.safetensors")), type(vector(1)))


def test_what_latents_cannot_do_is_refused_by_name() -> None:
    sae = random_sae("standard")
    bare = features_of(sae, CHOSEN, SITE)
    for operation, dose, message in (
        ("rotate", Dose(30.0, "degrees"), "rotate"),
        ("clamp", Dose(1.0, "vector"), "takes a dose in raw or peak"),
        ("clamp", Dose(1.0, "peak"), "holds no peaks"),
        ("mean", None, "holds no means"),
        ("raise", None, "needs a dose"),
    ):
        with pytest.raises(BadInput, match=message):
            Intervention(operation, bare, Span.parse("all"), dose)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="keep-norm"):
        Intervention("ablate", bare, Span.parse("all"), keep_norm=True)
    on_a_head = Plan((Intervention("ablate", bare, Span.parse("all"), sites=(Site(1, "z", 0),)),))
    with pytest.raises(BadInput, match="read activations of width 16"):
        generate(tiny("llama"), [Row((1, 20), on_a_head)], GenerationSettings(2))
    with pytest.raises(BadInput, match="Latent 40 does not exist"):
        features_of(sae, (40,), SITE)
    with pytest.raises(BadInput, match="name each latent to edit once"):
        features_of(sae, (3, 3), SITE)
    with pytest.raises(BadInput, match="mean"):
        Intervention("mean", vector(1), Span.parse("all"))
    assert replace(bare, name="other").digest == bare.digest
