"""Training on streamed activations: it learns planted directions, the stream is bounded and fair, an interrupted training ends the same."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from saes import training
from saes.corpus import Text
from saes.loading import load_dictionary
from saes.quality import assess_dictionary
from saes.stream import activation_stream
from saes.training import CARD, TrainingSpec, train_sae
from steering.errors import BadInput
from steering.model.capture import capture
from steering.model.models import LoadedModel
from steering.model.sites import Site
from tests.planted import EMBEDDING, planted
from tests.tiny import VOCABULARY, tiny, with_sink

SITE = Site(1)
SEQUENCES = [
    tuple([1, *torch.randint(8, VOCABULARY, (n,), generator=torch.Generator().manual_seed(n)).tolist()])
    for n in range(5, 35)
]
SPEC = TrainingSpec("topk", latents=24, k=4, activations=64 * 40, batch=64, checkpoints=3)


def test_the_stream_holds_every_activation_and_no_special_token() -> None:
    model = tiny("llama")
    drawn = torch.cat(list(islice(activation_stream(model, SEQUENCES, SITE, batch=32, buffer=256, seed=3), 60)))
    wanted = torch.cat([c.values[SITE][c.mask] for c in capture(model, SEQUENCES, [SITE])])
    firsts = torch.cat([c.values[SITE][:, 0] for c in capture(model, SEQUENCES, [SITE])])
    exactly = {"compute_mode": "donot_use_mm_for_euclid_dist"}
    nearest = torch.cdist(wanted, drawn, **exactly).amin(1)
    is_first = torch.cdist(wanted, firsts, **exactly).amin(1) < 1e-3
    assert (nearest[~is_first] < 1e-3).all(), "an activation was never drawn"
    assert (nearest[is_first] > 1e-2).all(), "a BOS activation was drawn"
    again = torch.cat(list(islice(activation_stream(model, SEQUENCES, SITE, batch=32, buffer=256, seed=3, skip=7), 5)))
    assert torch.equal(again, drawn[7 * 32 : 12 * 32])
    other = next(iter(activation_stream(model, SEQUENCES, SITE, batch=32, buffer=256, seed=4)))
    assert not torch.equal(other, drawn[:32])


def read_of(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many activations each forward pass of the stream reads."""
    from saes import stream

    real, read = stream.capture, []

    def counted(*arguments: Any, **named: Any) -> Any:
        for found in real(*arguments, **named):
            read.append(int(found.mask.sum()))
            yield found

    monkeypatch.setattr(stream, "capture", counted)
    return read


@pytest.mark.parametrize("activations", [256, 640, 64 * 40])
def test_a_training_reads_no_more_activations_than_it_draws(
    activations: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = read_of(monkeypatch)
    spec = TrainingSpec("topk", latents=24, k=4, activations=activations, batch=64, checkpoints=0)
    train_sae(tiny("llama"), SEQUENCES, SITE, spec, tmp_path)
    drawn = (min(50, spec.steps) + spec.steps) * spec.batch  # the input's scale is measured on batches of its own
    specials = len(SEQUENCES) / sum(map(len, SEQUENCES))
    assert drawn <= sum(read) * (1 - specials / 2), "something was drawn that was not read"
    assert sum(read) <= drawn * (1 + 2 * specials) + max(read), (sum(read), drawn)


@pytest.mark.parametrize("batches", [1, 2, 5, 40])
def test_a_stream_of_some_batches_ends_after_them_and_can_be_gone_on_with(batches: int) -> None:
    model = tiny("llama")
    drawn = list(activation_stream(model, SEQUENCES, SITE, batch=32, buffer=64, seed=3, batches=batches))
    assert [len(b) for b in drawn] == [32] * batches
    skipped = list(
        activation_stream(model, SEQUENCES, SITE, batch=32, buffer=64, seed=3, batches=batches, skip=batches - 1)
    )
    assert len(skipped) == 1 and torch.equal(skipped[0], drawn[-1])


def test_activations_that_are_held_are_read_once_and_all_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model, read = tiny("llama"), read_of(monkeypatch)
    stream = activation_stream(model, SEQUENCES, SITE, batch=32, buffer=64, seed=3, hold=True)
    there = sum(len(s) - 1 for s in SEQUENCES)
    drawn = torch.cat(list(islice(stream, 4 * there // 32)))
    assert sum(read) == sum(map(len, SEQUENCES)), "a sequence was read again"
    wanted = torch.cat([c.values[SITE][:, 1:][c.mask[:, 1:]] for c in capture(model, SEQUENCES, [SITE])])
    different, times = wanted.bfloat16().float().unique(dim=0, return_counts=True)
    places = torch.cdist(drawn, different, compute_mode="donot_use_mm_for_euclid_dist").min(1)
    assert float(places.values.max()) == 0, "what was drawn is not what was read, in bfloat16"
    drawn_times = torch.bincount(places.indices, minlength=len(different))
    assert (drawn_times >= 3 * times).all(), "one was left out in a later round"
    monkeypatch.setattr("saes.stream.free_bytes", lambda device: 1000)
    with pytest.raises(BadInput, match="do not hold them"):
        next(activation_stream(model, SEQUENCES, SITE, batch=32, buffer=64, hold=True))


def test_matrices_are_stored_in_the_precision_asked_for_and_read_in_float32(tmp_path: Path) -> None:
    model = tiny("llama")
    folders = [
        train_sae(model, SEQUENCES, SITE, replace(SPEC, architecture="batchtopk", stored=stored), tmp_path / stored)
        for stored in ("float32", "bfloat16")
    ]
    whole, rounded = (load_file(folder / "sae_weights.safetensors") for folder in folders)
    assert {n: t.dtype for n, t in rounded.items()} == {
        n: torch.bfloat16 if t.ndim == 2 else torch.float32 for n, t in whole.items()
    }
    assert all(torch.equal(t.to(rounded[n].dtype), rounded[n]) for n, t in whole.items())
    read = load_dictionary(folders[1], model=model)
    assert read.sae.W_enc.dtype == read.decoder.dtype == torch.float32
    assert read.card["spec"]["stored"] == "bfloat16" and "stored" not in load_dictionary(folders[0]).card["spec"]
    with pytest.raises(BadInput, match="precision"):
        TrainingSpec(stored="float8")  # type: ignore[arg-type]


def test_a_buffer_too_small_no_sequences_and_specials_only_are_refused() -> None:
    model = tiny("llama")
    with pytest.raises(BadInput, match="two batches"):
        next(activation_stream(model, SEQUENCES, SITE, batch=32, buffer=40))
    with pytest.raises(BadInput, match="no sequences"):
        next(activation_stream(model, [], SITE))
    with pytest.raises(BadInput, match="special tokens"):
        next(activation_stream(model, [(1, 1)], SITE, batch=4, buffer=16))


def directions(n: int = 12) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(n, 16, generator=torch.Generator().manual_seed(5)), dim=1)


def combined(n_tokens: int = 600) -> tuple[LoadedModel, torch.Tensor]:
    """A model whose token embeddings are sums of two of twelve planted directions."""
    generator = torch.Generator().manual_seed(6)
    truth = directions()
    pairs = torch.stack([torch.randperm(len(truth), generator=generator)[:2] for _ in range(n_tokens)])
    sizes = 1 + torch.rand(n_tokens, 2, generator=generator)
    return planted((truth[pairs] * sizes[..., None]).sum(1)), truth


def test_training_finds_planted_directions(tmp_path: Path) -> None:
    model, truth = combined()
    sequences = [tuple(range(start, start + 30)) for start in range(10, 570, 30)]
    spec = TrainingSpec("topk", latents=24, k=2, activations=120_000, batch=256, learning_rate=4e-3, checkpoints=0)
    dictionary = load_dictionary(train_sae(model, sequences, EMBEDDING, spec, tmp_path), model=model)
    cosine = torch.nn.functional.normalize(dictionary.decoder, dim=1) @ truth.T
    found = (cosine.amax(0) > 0.95).sum()
    assert found >= 10, f"{found} of 12 planted directions found"
    assert dictionary.site == EMBEDDING and dictionary.card["spec"]["k"] == 2


@pytest.mark.parametrize(
    ("architecture", "hold"),
    [("topk", False), ("batchtopk", False), ("jumprelu", False), ("standard", False), ("topk", True)],
)
def test_an_interrupted_training_ends_with_the_same_weights(
    architecture: str, hold: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny("llama")
    spec = TrainingSpec(architecture, latents=24, k=4, activations=64 * 40, batch=64, checkpoints=3, hold=hold)  # type: ignore[arg-type]
    whole = load_dictionary(train_sae(model, SEQUENCES, SITE, spec, tmp_path / "whole"))
    real = training.activation_stream

    def failing(*args: Any, **kwargs: Any) -> Any:
        yield from islice(real(*args, **kwargs), 40 + 27)  # the scale is measured on 40 batches
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "activation_stream", failing)
    with pytest.raises(KeyboardInterrupt):
        train_sae(model, SEQUENCES, SITE, spec, tmp_path / "cut")
    monkeypatch.setattr(training, "activation_stream", real)
    assert not (tmp_path / "cut" / "sae").exists()
    resumed = load_dictionary(train_sae(model, SEQUENCES, SITE, spec, tmp_path / "cut"))
    assert (
        torch.allclose(resumed.sae.W_enc, whole.sae.W_enc, atol=1e-6)
        and resumed.sae.W_dec.shape == whole.sae.W_dec.shape
    )
    assert torch.allclose(resumed.sae.W_dec, whole.sae.W_dec, atol=1e-6)


def test_a_cut_off_checkpoint_is_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints" / "640"
    folder.mkdir(parents=True)
    (folder / "trainer_state.pt").write_bytes(b"PK half")
    assert training._latest(tmp_path / "checkpoints") is None


def test_a_folder_of_another_training_is_refused_and_a_finished_one_kept(tmp_path: Path) -> None:
    model = tiny("llama")
    place = train_sae(model, SEQUENCES, SITE, SPEC, tmp_path)
    before = (place / "sae_weights.safetensors").read_bytes()
    assert train_sae(model, SEQUENCES, SITE, SPEC, tmp_path) == place
    assert (place / "sae_weights.safetensors").read_bytes() == before
    assert json.loads((place / CARD).read_text())["site"] == SITE.name
    with pytest.raises(BadInput, match="another folder"):
        train_sae(model, SEQUENCES, Site(0), SPEC, tmp_path)


def test_specs_that_cannot_be_trained_are_refused() -> None:
    with pytest.raises(BadInput, match="architecture"):
        TrainingSpec("top")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="does not fit"):
        TrainingSpec("topk", latents=8, k=9)
    with pytest.raises(BadInput, match="less than one batch"):
        TrainingSpec(activations=100)


def test_the_same_training_writes_the_same_configuration_and_a_failed_one_leaves_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny("llama")
    written = [(train_sae(model, SEQUENCES, SITE, SPEC, tmp_path / name) / "cfg.json").read_text() for name in "ab"]
    assert written[0] == written[1]
    facts = json.loads(written[0], object_pairs_hook=list)
    assert [key for key, _ in facts] == sorted(key for key, _ in facts)
    monkeypatch.setattr(training, "_order", lambda path: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        train_sae(model, SEQUENCES, SITE, SPEC, tmp_path / "c")
    assert not (tmp_path / "c" / "sae").exists() and not (tmp_path / "c" / "sae.partial").exists()
    monkeypatch.undo()
    assert (train_sae(model, SEQUENCES, SITE, SPEC, tmp_path / "c") / "cfg.json").read_text() == written[0]


@pytest.mark.parametrize("keep", [False, True], ids=["left out", "kept"])
def test_an_autoencoder_trained_on_attention_sinks_is_said_to_have_learned_them(keep: bool, tmp_path: Path) -> None:
    model, rng = with_sink(), random.Random(0)
    sequences = [tuple(rng.randrange(8, VOCABULARY) for _ in range(12)) for _ in range(60)]
    spec = TrainingSpec(latents=48, k=6, activations=24_000, batch=256, learning_rate=3e-3, keep_sinks=keep)
    stream = activation_stream(model, sequences, Site(1), batch=256, buffer=600, keep_sinks=keep)
    longest = float(next(stream).norm(dim=1).max())
    assert (longest > 300) is keep
    folder = train_sae(model, sequences, Site(1), spec, tmp_path)
    card = json.loads((folder / "training.json").read_text())
    assert card["sinks"]["left_out"] is not keep and card["sinks"]["positions"] == [0]
    assert ("keep_sinks" in card["spec"]) is keep
    texts = [Text(tuple(rng.randrange(8, VOCABULARY) for _ in range(12))) for _ in range(20)]
    found = assess_dictionary(model, load_dictionary(folder), texts)
    assert found.outlier_share > 0.9
    assert bool(found.remarks) is keep, found
    if not keep:
        assert found.explained_variance > 0.6
