"""Sentence autoencoders: splitting, vectors, planted categories, the authors' published file."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from saes.sentence_text import sentence_vectors, split_sentences, thinking_span
from saes.sentence_training import stability, train_sentence_sae
from saes.sentences import SentenceSAE, load_published
from steering.errors import BadInput
from steering.model.capture import capture
from steering.model.sites import Site
from steering.model.thinking import MARKERS
from steering.vector.interchange import import_behaviour_means, load_plain
from tests.tiny import tiny

CATEGORIES, WIDE = 8, 32


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The matrices are so small that several threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def clusters(count: int = 1600) -> tuple[Tensor, Tensor]:
    """Sentences with one main direction and two weaker ones out of `CATEGORIES`, far from the origin; and which is the main one."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.linalg.qr(torch.randn(WIDE, WIDE, generator=generator))[0][:CATEGORIES]
    order = torch.rand(count, CATEGORIES, generator=generator).argsort(1)
    x = directions[order[:, 0]] + 0.03 * torch.randn(count, WIDE, generator=generator)
    for place in (1, 2):
        x += 0.8 * torch.rand(count, 1, generator=generator) * directions[order[:, place]]
    size = 3 + torch.rand(count, 1, generator=generator)
    return 5 * torch.randn(WIDE, generator=generator) + size * x, order[:, 0]


def purity(found: Tensor, which: Tensor) -> float:
    return sum(Counter(which[found == c].tolist()).most_common(1)[0][1] for c in found.unique().tolist()) / len(which)


def test_training_recovers_planted_categories_and_seeds_agree() -> None:
    vectors, which = clusters()
    fresh, truth = vectors[1200:], which[1200:]
    found = [train_sentence_sae(vectors[:1200], CATEGORIES, seed=seed) for seed in (0, 1)]
    for sae in found:
        assert purity(sae.categories(fresh), truth) > 0.95
        assert torch.allclose(sae.decoder.norm(dim=-1), torch.ones(CATEGORIES), atol=1e-5)
        assert sae.provenance["held_out_loss"] < 0.2 and 10 < sae.provenance["epochs"] <= 300
    agreement = stability(found)
    assert agreement.share == 1.0 and agreement.cosine > 0.95 and agreement.pairs == 1
    again = train_sentence_sae(vectors[:1200], CATEGORIES, seed=0)
    assert torch.equal(again.encoder, found[0].encoder) and torch.equal(again.decoder, found[0].decoder)


def test_raw_activations_give_other_categories_than_prepared_ones() -> None:
    """v1 fed raw activations to autoencoders of centred, normalised ones."""
    vectors, which = clusters()
    sae = train_sentence_sae(vectors[:1200], CATEGORIES)
    raw = ((vectors - sae.b_dec) @ sae.encoder.T + sae.bias).argmax(-1)
    assert purity(raw, which) < 0.6 < purity(sae.categories(vectors), which)
    assert torch.equal(sae.categories(sae.mean + 7 * (vectors - sae.mean)), sae.categories(vectors))


def test_encode_and_decode_are_the_papers_equations() -> None:
    vectors, _ = clusters(300)
    sae = train_sentence_sae(vectors, CATEGORIES, k=3)
    for row in vectors[:20]:
        x = (row - sae.mean) / (row - sae.mean).norm()
        u = sae.encoder @ (x - sae.b_dec) + sae.bias
        z = torch.zeros(CATEGORIES)
        for place in sorted(range(CATEGORIES), key=lambda i: -float(u[i]))[:3]:
            z[place] = u[place]
        assert torch.allclose(sae.pre_activations(row), u, atol=1e-5)
        assert torch.allclose(sae.encode(row), z, atol=1e-5)
        assert int(sae.categories(row)) == int(u.argmax())
        assert torch.allclose(sae.decode(z), sae.decoder.T @ z + sae.b_dec, atol=1e-5)


def test_stability_matches_latents_one_to_one() -> None:
    vectors, _ = clusters(400)
    sae = train_sentence_sae(vectors, CATEGORIES)
    order = torch.randperm(CATEGORIES)
    shuffled = SentenceSAE(sae.encoder[order], sae.bias[order], sae.decoder[order], sae.b_dec, sae.mean, 3)
    same = stability([sae, shuffled, sae])
    assert same.share == 1.0 and same.cosine == pytest.approx(1.0, abs=1e-5) and same.pairs == 3
    half = sae.decoder.clone()
    half[: CATEGORIES // 2] *= -1
    other = SentenceSAE(sae.encoder, sae.bias, half, sae.b_dec, sae.mean, 3)
    assert stability([sae, other]).share <= 0.5 + 1 / CATEGORIES
    with pytest.raises(BadInput, match="at least two"):
        stability([sae])


def test_sentence_autoencoders_read_back(tmp_path: Path) -> None:
    vectors, _ = clusters(300)
    sae = train_sentence_sae(vectors, CATEGORIES, site=Site(1))
    titled = SentenceSAE(
        sae.encoder, sae.bias, sae.decoder, sae.b_dec, sae.mean, 3, Site(1), tuple("abcdefgh"), sae.provenance
    )
    back = SentenceSAE.load(titled.save(tmp_path / "s.safetensors"))
    assert torch.equal(back.categories(vectors), sae.categories(vectors))
    assert (back.titles, back.site, back.k, back.provenance) == (titled.titles, Site(1), 3, sae.provenance)
    with pytest.raises(BadInput, match="No sentence autoencoder"):
        SentenceSAE.load(tmp_path / "absent")
    (tmp_path / "cut").write_bytes((tmp_path / "s.safetensors").read_bytes()[:300])
    with pytest.raises(BadInput, match="corrupt or cut short"):
        SentenceSAE.load(tmp_path / "cut")


def test_what_does_not_fit_is_refused() -> None:
    vectors, _ = clusters(300)
    with pytest.raises(BadInput, match="too few"):
        train_sentence_sae(vectors[:9], CATEGORIES)
    with pytest.raises(BadInput, match="k 9 does not fit"):
        train_sentence_sae(vectors, CATEGORIES, k=9)
    vectors[3, 3] = torch.nan
    with pytest.raises(BadInput, match="Finite"):
        train_sentence_sae(vectors, CATEGORIES)
    eye = torch.eye(4)
    with pytest.raises(BadInput, match="titles"):
        SentenceSAE(eye, eye[0], eye, eye[0], eye[0], 2, titles=("one",))
    with pytest.raises(BadInput, match="mean has shape"):
        SentenceSAE(eye, eye[0], eye, eye[0], torch.zeros(3), 2)
    sae = SentenceSAE(eye, eye[0], eye, eye[0], eye[0], 2)
    with pytest.raises(BadInput, match="width 3"):
        sae.categories(torch.zeros(3))


def sentences(text: str, **options: int) -> list[str]:
    return [text[start:end] for start, end in split_sentences(text, **options)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "This is one. This is two! Is this three? I think so; yes we do",
            ["This is one.", "This is two!", "Is this three?", "I think so;", "yes we do"],
        ),
        ("The value is 3.14 here. Ok. No way. Next one now.", ["The value is 3.14 here.", "Next one now."]),
        (
            "There are many in an E. coli cell. We multiply by k! to account for it.",
            ["There are many in an E. coli cell.", "We multiply by k! to account for it."],
        ),
        ("Take a prime, e.g. seven, and go on. Ask Dr. Who about it.", ["Take a prime, e.g. seven, and go on.", "Ask Dr. Who about it."]),
        ("First line without a point\n\nSecond line without a point", ["First line without a point", "Second line without a point"]),
        ('He said "Hello my world." She replied to him.', ['He said "Hello my world."', "She replied to him."]),
        ("  What is that?! It is crazy!!  ", ["What is that?!", "It is crazy!!"]),
        ("The answer is 5. Then we stop here.", ["The answer is 5.", "Then we stop here."]),
        ("", []),
    ],
)  # fmt: skip
def test_sentences_are_split_as_in_the_authors_code(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


def test_the_thinking_segment_is_the_last_one() -> None:
    text = "say <think> </think> here <think>we think now</think> done"
    start, end = thinking_span(text)
    assert text[start:end] == "we think now"
    assert thinking_span("no tags here") == (0, len("no tags here"))
    assert thinking_span("<think>cut off") == (7, 14)
    for one in MARKERS:
        text = f"say {one.opening}we think now{one.closing} done"
        assert text[slice(*thinking_span(text))] == "we think now", one
    assert thinking_span("the prompt began it </think> done") == (0, 20)


def test_sentence_vectors_are_means_from_the_token_before_a_sentence() -> None:
    model, site = tiny("llama"), Site(1)
    texts = [
        "w8 w9 <think> w10 w11 w12 ; w13 w14 stop. w15 w16 w17 w18 ; </think> w20 w21 w22 w23",
        "w30 w31 w32 ; w33 w34 w35 w36",
        "w30 w31",
    ]
    found = sentence_vectors(model, texts, site)
    # tokens of the first text, from 0: <think> is 2, the sentences are 3 to 6, 7 to 9 and 10 to 14; nothing behind </think> counts
    windows = {0: [(2, 7), (6, 10), (9, 15)], 1: [(0, 4), (3, 8)]}
    assert [(s.text, s.first, s.last) for s in found.sentences] == [
        (0, 3, 7),
        (0, 7, 10),
        (0, 10, 15),
        (1, 0, 4),
        (1, 4, 8),
    ]
    assert [s.words for s in found.sentences[:2]] == ["w10 w11 w12 ;", "w13 w14 stop."]
    expected, means = [], []
    for number, spans in windows.items():
        (captured,) = capture(model, [model.tokenizer(texts[number])["input_ids"]], [site])
        h = captured.values[site][0]
        expected += [h[a:b].mean(0) for a, b in spans]
        means.append(h[spans[0][0] + (number == 0) : spans[-1][1]].mean(0))
    assert torch.allclose(found.vectors, torch.stack(expected), atol=1e-5)
    assert torch.allclose(found.mean, torch.stack(means).mean(0), atol=1e-5)
    with pytest.raises(BadInput, match="None of the 1 texts"):
        sentence_vectors(model, ["w30 w31"], site)


PUBLISHED = "published/sentence_sae_r1-distill-qwen-1.5b_layer12_15.pt"


def test_the_published_file_needs_its_centring_mean(shared_data: Path) -> None:
    path = shared_data / PUBLISHED
    bare = load_published(path)
    assert (bare.n, bare.width, bare.k, bare.site) == (15, 1536, 3, Site(12)) and bare.mean is None
    with pytest.raises(BadInput, match="lacks the mean"):
        bare.categories(torch.randn(1536))
    content = load_plain(path)
    assert torch.allclose(bare.decoder.norm(dim=-1), torch.ones(15), atol=1e-3)
    assert torch.allclose(bare.decoder, torch.from_numpy(content["cluster_centers"]), atol=1e-4)
    # a sentence that is one of the dictionary's directions is of that category, once the mean is known and taken off
    mean = 20 * torch.randn(1536, generator=torch.Generator().manual_seed(0))
    sae = load_published(path, mean=mean, titles=[f"category {i}" for i in range(15)])
    own = sae.categories(mean + 3 * sae.decoder)
    assert float((own == torch.arange(15)).float().mean()) > 0.9
    assert len(sae.titles) == 15 and sae.provenance["import"]["file"] == path.name


def test_the_published_categories_tell_behaviours_apart_only_when_centred(shared_data: Path) -> None:
    """The same authors' mean activations per behaviour, of the same model and layer: raw, they all fall into the same few categories."""
    means = import_behaviour_means(
        shared_data / "published/behaviour_mean_activations_r1-distill-qwen-1.5b.pt", model_id="R1-Distill-Qwen-1.5B"
    )
    rows = torch.stack([means.at(label, 12).mean for label in means.labels])
    sae = load_published(shared_data / PUBLISHED, mean=means.at("overall", 12).mean)
    raw = ((rows - sae.b_dec) @ sae.encoder.T + sae.bias).argmax(-1)
    assert len(sae.categories(rows).unique()) >= 4 > len(raw.unique())


def test_published_files_are_read_without_running_them(tmp_path: Path) -> None:
    weights = {
        "encoder_weight": torch.eye(4),
        "encoder_bias": torch.zeros(4),
        "decoder_weight": torch.eye(4),
        "b_dec": torch.zeros(4),
    }
    patched = tmp_path / "sae_layer3.pt"
    torch.save({**weights, "topk": 2, "activation_mean": torch.ones(4)}, patched)
    sae = load_published(patched)
    assert sae.mean is not None and sae.mean.tolist() == [1.0] * 4 and sae.site == Site(3) and sae.k == 2
    with pytest.raises(BadInput, match="its own activation_mean"):
        load_published(patched, mean=torch.zeros(4))
    torch.save(weights, tmp_path / "unnamed.pt")
    with pytest.raises(BadInput, match="pass site"):
        load_published(tmp_path / "unnamed.pt")
    torch.save({"encoder_weight": torch.eye(4)}, tmp_path / "layer1.pt")
    with pytest.raises(BadInput, match="lacks encoder_bias"):
        load_published(tmp_path / "layer1.pt")

    class Runs:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return exec, ("raise SystemExit('it ran')",)

    (tmp_path / "layer2.pt").write_bytes(pickle.dumps({"encoder_weight": Runs()}))
    with pytest.raises(BadInput, match=r"builtins\.exec"):
        load_published(tmp_path / "layer2.pt")
