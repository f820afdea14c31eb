"""Vector files: what is written is read back; what is pickled, corrupt or foreign is refused."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from steering.errors import BadInput
from steering.extraction import Reading, checkpoint_difference, mean_difference
from steering.model.models import load_model, wrap
from steering.model.sites import Site
from steering.vector.vectors import Provenance, SteeringVector, random_like
from tests.tiny import CONFIGS, tiny, tokenizer, vector


def test_equal_vectors_are_equal_files(tmp_path: Path) -> None:
    files = [vector(3).save(tmp_path / f"{n}.safetensors").read_bytes() for n in range(12)]
    assert len(set(files)) == 1
    assert torch.equal(SteeringVector.load(tmp_path / "0.safetensors").direction, vector(3).direction)


def test_save_and_load_keep_everything(tmp_path: Path) -> None:
    original = vector(3)
    loaded = SteeringVector.load(original.save(tmp_path / "deep" / "v.safetensors"))
    assert torch.equal(loaded.direction, original.direction)
    assert (loaded.name, loaded.site, loaded.provenance, loaded.digest) == (
        original.name,
        original.site,
        original.provenance,
        original.digest,
    )


def test_a_file_whose_header_begins_like_a_pickle_is_read(tmp_path: Path) -> None:
    """The first bytes of a safetensors file are the length of its header, which is any multiple of eight."""
    begun = set()
    for length in range(256, 1024, 8):
        vector = SteeringVector("n" * length, Site(0), torch.ones(4), Provenance("planted", "f", "m"))
        begun.add(vector.save(tmp_path / "v.safetensors").read_bytes()[:2])
        assert SteeringVector.load(tmp_path / "v.safetensors").name == vector.name
    assert {b"\x80\x02", b"\x80\x03", b"\x80\x04"} & begun


def test_random_control_has_the_norm_and_not_the_direction() -> None:
    original = vector(3)
    noise = random_like(original, 5)
    assert abs(noise.norm - original.norm) < 1e-5 and noise.site == original.site
    assert torch.equal(noise.direction, random_like(original, 5).direction)
    assert not torch.allclose(noise.direction, random_like(original, 6).direction)


def test_bad_files_get_one_clear_error(tmp_path: Path) -> None:
    torch.save({"direction": torch.ones(4)}, tmp_path / "a.pt")
    (tmp_path / "b.pkl").write_bytes(pickle.dumps({"direction": [1.0]}))
    whole = vector().save(tmp_path / "c.safetensors").read_bytes()
    (tmp_path / "short.safetensors").write_bytes(whole[:-9])
    (tmp_path / "empty.safetensors").write_bytes(b"")
    save_file({"x": torch.ones(2)}, tmp_path / "foreign.safetensors")
    for name, message in {
        "a.pt": "pickled",
        "b.pkl": "pickled",
        "short.safetensors": "corrupt or cut short",
        "empty.safetensors": "corrupt or cut short",
        "foreign.safetensors": "not a steering vector",
        "absent.safetensors": "No vector file",
    }.items():
        with pytest.raises(BadInput, match=message):
            SteeringVector.load(tmp_path / name)


@pytest.mark.parametrize(
    ("direction", "message"),
    [(torch.zeros(4), "is zero"), (torch.tensor([1.0, float("nan")]), "NaN"), (torch.ones(2, 4), r"shape \[2, 4\]")],
)
def test_unusable_directions_are_refused(direction: torch.Tensor, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        SteeringVector("v", Site(0), direction, Provenance("m", "x"))


def test_checkpoint_difference_is_the_difference_of_the_two_means_on_the_same_tokens() -> None:
    base = tiny("llama")
    torch.manual_seed(1)
    other = wrap(type(base.model)(CONFIGS["llama"]()), tokenizer(), "other")
    reading = Reading(((1, 5, 6), (1, 9, 10, 11)), ((2,), (1, 3)))
    site = Site(1)
    found = checkpoint_difference(base, other, reading, [site])[site]

    def states(model: object, sequence: tuple[int, ...]) -> torch.Tensor:
        with torch.inference_mode():
            return model.model(input_ids=torch.tensor([sequence]), output_hidden_states=True).hidden_states[2][0]  # type: ignore[attr-defined]

    means = [
        torch.stack([states(m, (1, 5, 6))[2], states(m, (1, 9, 10, 11))[1], states(m, (1, 9, 10, 11))[3]]).mean(0)
        for m in (base, other)
    ]
    assert torch.allclose(found.direction, means[1] - means[0], atol=1e-5)
    assert found.provenance.counts == (3, 3) and found.provenance.model == base.fingerprint


def test_identical_sides_are_refused() -> None:
    reading = Reading.last_token([(1, 5, 6)])
    with pytest.raises(BadInput, match="identical"):
        mean_difference(tiny("llama"), reading, reading, [Site(0)], name="n", contrast="nothing")
    with pytest.raises(BadInput, match="identical"):
        checkpoint_difference(tiny("llama"), tiny("llama"), reading, [Site(0)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "builtin:bse"}, "Did you mean 'builtin:base'"),
        ({"name": "./no/such/folder"}, "No model folder"),
        ({"name": "builtin:base", "dtype": "float23"}, "Did you mean 'float32'"),
        ({"name": "builtin:base", "device": "cpu", "device_map": "auto"}, "only one of device"),
    ],
)
def test_models_that_cannot_be_loaded_say_why(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        load_model(**arguments)  # type: ignore[arg-type]


def test_a_saved_model_loads_with_its_own_tokenizer(tmp_path: Path) -> None:
    model = tiny("qwen2")
    model.model.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path))
    assert loaded.fingerprint == model.fingerprint
    assert loaded.tokenizer("w15 w16")["input_ids"] == [15, 16]


def test_models_with_other_templates_and_unread_tokens_are_contrasted() -> None:
    base, weights = tiny("llama"), copy.deepcopy(tiny("llama").model)
    weights.model.layers[1].mlp.down_proj.weight.data.mul_(2)
    other = copy.copy(base.tokenizer)
    other.chat_template = "{{ messages[0].content }}"
    written = base.tokenizer.backend_tokenizer.to_str().replace('"w40"', '"elsewhere"')
    renamed = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(written))
    reading = Reading.last_token([(1, 9, 12)])
    expected = checkpoint_difference(base, wrap(weights, base.tokenizer), reading, [Site(1)])[Site(1)]
    for foreign in (other, renamed):
        thinking = wrap(weights, foreign)
        assert thinking.tokenizer_fingerprint != base.tokenizer_fingerprint
        found = checkpoint_difference(base, thinking, reading, [Site(1)])[Site(1)]
        assert torch.equal(found.direction, expected.direction)
    with pytest.raises(BadInput, match="1 of the 3 ids read differ .40: 'w40' and 'elsewhere'"):
        checkpoint_difference(base, wrap(weights, renamed), Reading.last_token([(1, 9, 40)]), [Site(1)])
