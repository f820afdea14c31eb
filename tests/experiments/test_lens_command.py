"""`steer vectors lens`: both lenses in the terminal and as JSON, where fitted lenses are kept, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from experiments.studies import lenses
from experiments.studies.lenses import fitted_lenses, lens_texts
from steering.extraction import both_lenses, fit_jacobian
from steering.model.models import LoadedModel, load_model
from steering.model.prompts import encode_prompt
from steering.model.sites import Site
from steering.vector.vectors import Provenance, SteeringVector
from tests.experiments.command_line import Steer, command

SITE = Site(1)
LINES = [f"rules + {k} ; goal 31 start 42 16 9 ? let us think first . {k + 40} + 2 = {k + 42} ; wait" for k in range(6)]


@pytest.fixture(scope="module")
def base() -> LoadedModel:
    return load_model("builtin:base")


@pytest.fixture
def steer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, base: LoadedModel
) -> Steer:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STEERING_CACHE", str(tmp_path / "cache"))
    Path("texts.txt").write_text("\n".join(LINES))
    at = {"one": SITE, "two": Site(0, "mlp_out"), "last": Site(3)}
    for name, site in at.items():
        direction = base.model.get_output_embeddings().weight[20 + len(name)].detach() * 3
        SteeringVector(name, site, direction, Provenance("test", base.fingerprint, base.id)).save(f"{name}.safetensors")
    return command(monkeypatch, capsys)


FITTED = ("--texts", "texts.txt", "--skip", 4)


def documents(out: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(out)["vectors"]
    return found


def test_both_lenses_are_those_of_the_library(steer: Steer, base: LoadedModel) -> None:
    code, out, _ = steer("vectors", "lens", "one.safetensors", "two.safetensors", *FITTED, "--count", 4, "--json")
    assert code == 0
    texts = [encode_prompt(base, line) for line in LINES]
    fitted = fit_jacobian(base, texts, [SITE, Site(0, "mlp_out")], skip=4)
    for name, found in zip(("one", "two"), documents(out), strict=True):
        vector = SteeringVector.load(f"{name}.safetensors")
        wanted = both_lenses(base, fitted[vector.site], vector, 4)
        assert [t["id"] for t in found["logit"]["promoted"]] == [t.id for t in wanted.promoted]
        assert [t["id"] for t in found["jacobian"]["promoted"]] == [t.id for t in wanted.carried_promoted]
        assert [t["id"] for t in found["jacobian"]["demoted"]] == [t.id for t in wanted.carried_demoted]
        assert found["agreement"]["cosine"] == pytest.approx(wanted.cosine, abs=1e-6)
        assert found["halves"]["cosine"] == pytest.approx(wanted.halves_cosine, abs=1e-6)
        assert found["lens"]["texts"] == 6 and found["lens"]["digest"] == fitted[vector.site].digest
    assert documents(out)[0]["jacobian"]["promoted"] != documents(out)[0]["logit"]["promoted"]


def test_the_table_says_on_what_the_lens_rests(steer: Steer) -> None:
    code, out, _ = steer("vectors", "lens", "one.safetensors", "last.safetensors", *FITTED, "--n", 3, "--count", 2)
    words = " ".join(out.split())
    assert code == 0 and "logit lens promotes" in words and "Jacobian lens demotes" in words
    assert "of 3 texts" in words and "without the first 4 positions" in words and "3 texts of a file" in words
    assert "Two halves of the texts: cosine" in words and words.count("No layer lies behind this site") == 1


def test_a_lens_that_prompts_hold_is_said_to_be_of_one_axis(steer: Steer) -> None:
    _, out, _ = steer("vectors", "lens", "one.safetensors", *FITTED, "--json")  # whole lines, prompts and all
    assert any("One axis holds" in remark for remark in documents(out)[0]["remarks"])


def test_a_fitted_lens_is_taken_from_the_cache_for_the_same_texts_and_settings_alone(
    steer: Steer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fitted: list[list[str]] = []
    fit = lenses.fit_jacobian

    def counted(model: LoadedModel, texts: Any, sites: Any, **more: Any) -> Any:
        fitted.append([site.name for site in sites])
        return fit(model, texts, sites, **more)

    monkeypatch.setattr(lenses, "fit_jacobian", counted)
    few = (*FITTED, "--n", 3)
    call = ("vectors", "lens", "one.safetensors", "--json")
    first, again = (documents(steer(*call, *few)[1]) for _ in range(2))
    assert first == again and fitted == [[SITE.name]]
    _, out, _ = steer("vectors", "lens", "one.safetensors", "two.safetensors", *few, "--json")
    assert json.loads(out)["from_cache"] == 1 and fitted[1:] == [["blocks.0.hook_mlp_out"]]
    for other in (("--skip", 5), ("--n", 4), ("--longest", 12)):
        steer(*call, *few, *other)
    assert len(fitted) == 5
    (file,) = [
        path
        for path in (tmp_path / "cache" / "lenses").rglob("*.safetensors")
        if SITE.name.encode() in path.read_bytes()
    ][:1]
    file.write_bytes(file.read_bytes()[:-10])
    assert {d["lens"]["digest"] for d in documents(steer(*call, *few)[1])} == {first[0]["lens"]["digest"]}


def test_a_cache_that_cannot_be_written_loses_no_lens(
    steer: Steer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STEERING_CACHE", str(tmp_path / "file" / "cache"))
    code, out, error = steer("vectors", "lens", "one.safetensors", *FITTED, "--json")
    assert code == 0 and documents(out)[0]["jacobian"] and "is used and not kept" in error and "STEERING_CACHE" in error


def test_a_built_in_model_reads_its_own_responses_and_a_latent_its_decoder_row(
    steer: Steer, base: LoadedModel, tmp_path: Path
) -> None:
    code, out, _ = steer("vectors", "lens", "--sae", "builtin:base", "--latents", "464,3", "--n", 6, "--json")
    assert code == 0
    assert [found["vector"] for found in documents(out)] == ["builtin:base latent 464", "builtin:base latent 3"]
    read = lens_texts(base, None, 6)
    assert documents(out)[0]["remarks"] == [] and documents(out)[0]["axis_share"] < 0.1
    assert read.starts is not None and json.loads(out)["about"] == read.about and len(read.sequences) == 6
    assert documents(out)[0]["lens"]["started"] is True and "prompts" in documents(out)[0]["said"]
    from saes.loading import load_dictionary

    dictionary = load_dictionary("builtin:base")
    vector = SteeringVector("x", dictionary.site, dictionary.decoder[464], dictionary.provenance)
    found = fitted_lenses(base, read, [dictionary.site])
    assert found.kept == 1
    promoted = both_lenses(base, found.by_site[dictionary.site], vector, 10).carried_promoted
    assert [t["id"] for t in documents(out)[0]["jacobian"]["promoted"]] == [t.id for t in promoted]


def test_a_vector_of_other_weights_is_said(steer: Steer, base: LoadedModel) -> None:
    foreign = SteeringVector("foreign", SITE, base.model.lm_head.weight[3], Provenance("test", "0" * 16, "another"))
    foreign.save("foreign.safetensors")
    code, _, error = steer("vectors", "lens", "foreign.safetensors", *FITTED, "--json")
    assert code == 0 and "'foreign' was extracted from another" in error
    assert "extracted from" not in steer("vectors", "lens", "one.safetensors", *FITTED, "--json")[2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Name vectors to read"),
        (("--sae", "builtin:base"), "--sae and --latents together"),
        (("--latents", "4"), "--sae and --latents together"),
        (("--sae", "builtin:base", "--latents", "4,x"), "'x' is no number"),
        (("--sae", "builtin:base", "--latents", "99999"), "99999 is none"),
        (("one.safetensors", "--n", 1), "1 texts are too few"),
        (("one.safetensors", "--count", 0), "--count 0"),
        (("one.safetensors", "--model", "elsewhere"), "give --texts FILE"),
        (("one.safetensors", "--texts", "missing.txt"), "There is no file missing.txt"),
        (("gone.safetensors",), "No vector file at gone.safetensors"),
        (("one.safetensors", "--texts", "texts.txt", "--skip", 60), "0 of 6 texts can be read"),
        (("one.safetensors", "--texts", "texts.txt", "--skip", 8, "--longest", 8), "less than longest"),
        (("wide.safetensors", "--texts", "texts.txt"), "has width 5"),
    ],
)
def test_what_cannot_be_read_is_refused(
    steer: Steer, base: LoadedModel, arguments: tuple[Any, ...], words: str
) -> None:
    wide = SteeringVector("wide", SITE, base.model.lm_head.weight[3, :5], Provenance("test", "none"))
    wide.save("wide.safetensors")
    code, out, error = steer("vectors", "lens", *arguments)
    assert code == 2 and words in error and not out
