"""The shipped autoencoder of texts on its language model: as good as its card says, and latents that mean what is said of them."""

from __future__ import annotations

import pytest
import torch

from benchmarks.text_latents import NAMED, words_of
from saes.corpus import Text, encoded
from saes.dictionary import Dictionary
from saes.loading import load_dictionary
from saes.quality import assess_dictionary
from steering.model.models import LoadedModel
from steering.model.prompts import encode_prompt, token_texts

PARAGRAPHS = (
    # King James Version, 2 Chronicles 34, and the Jargon File 4.4.7: of the texts that training held back.
    "Josiah was eight years old when he began to reign, and he reigned in Jerusalem one and thirty years. And he did that which "
    "was right in the sight of the LORD, and walked in the ways of David his father, and declined neither to the right hand, nor "
    "to the left. For in the eighth year of his reign, while he was yet young, he began to seek after the God of David his father: "
    "and in the twelfth year he began to purge Judah and Jerusalem from the high places, and the groves, and the carved images, "
    "and the molten images. And they brake down the altars of Baalim in his presence; and the images, that were on high above "
    "them, he cut down; and the groves, and the carved images, and the molten images, he brake in pieces, and made dust of them, "
    "and strowed it upon the graves of them that had sacrificed unto them. And he burnt the bones of the priests upon their "
    "altars, and cleansed Judah and Jerusalem.",
    ":HCF: /H·C·F/, n. Mnemonic for ‘Halt and Catch Fire’, any of several undocumented and semi-mythical machine instructions with "
    "destructive side-effects, supposedly included for test purposes on several well-known architectures going as far back as the "
    "IBM 360. The MC6800 microprocessor was the first for which an HCF opcode became widely known. This instruction caused the "
    "processor to {toggle} a subset of the bus lines as rapidly as it could; in some configurations this could actually cause "
    "lines to burn up. Compare {killer poke}.",
)
SENTENCES = {
    549: ("The knights and the squires rode on.", " and"),
    331: ("Behold the tower that they built.", " that"),
    60: ("Wherefore weepest thou at the gate?", " thou"),
    861: ("Then the captain said unto his men, Be still.", " said"),
    667: ("These are the sons of the old farmer.", " sons"),
    193: ("The old man fell asleep before she came home.", " she"),
    132: ("After the harvest David went to the market.", " David"),
    313: ("In the evening the priests shut the doors.", " priests"),
    295: ("Nobody in the office understood the joke at first.", " joke"),
}  # fmt: skip
"""A sentence of none of the texts, and the token on which the latent is most active. 355 is on digits, tested by itself."""


@pytest.fixture(scope="module")
def dictionary(smollm2: LoadedModel) -> Dictionary:
    return load_dictionary("smollm2-text", model=smollm2)


def latents_on(model: LoadedModel, dictionary: Dictionary, sentence: str) -> tuple[list[str], torch.Tensor]:
    """Its tokens, and the latents that count on each."""
    ids = encode_prompt(model, sentence)
    (batch,) = encoded(model, dictionary, [Text(ids)])
    return token_texts(model, ids), batch.latents[0] * batch.mask[0][:, None]


@pytest.mark.language
def test_it_reads_texts_that_training_held_back_as_well_as_its_card_says(
    smollm2: LoadedModel, dictionary: Dictionary
) -> None:
    quality = dictionary.card["quality"]
    assert dictionary.origin(smollm2) is None and "remarks" not in dictionary.card
    for paragraph in PARAGRAPHS:
        found = assess_dictionary(smollm2, dictionary, [Text(encode_prompt(smollm2, paragraph))])
        assert quality["text_low"] <= found.explained_variance <= quality["text_high"], found
        assert found.recovered_of_mean > 0.9, found


@pytest.mark.language
@pytest.mark.parametrize("latent", sorted(SENTENCES))
def test_a_named_latent_is_strongest_where_its_name_says(
    latent: int, smollm2: LoadedModel, dictionary: Dictionary
) -> None:
    sentence, token = SENTENCES[latent]
    tokens, z = latents_on(smollm2, dictionary, sentence)
    assert tokens[int(z[:, latent].argmax())] == token and float(z[:, latent].max()) > 5
    assert int((z[:, latent] > 0).sum()) <= 2
    _, other = latents_on(smollm2, dictionary, "The bakery on the corner opens before sunrise.")
    assert float(other[:, latent].max()) == 0 < float(other.max())


@pytest.mark.language
def test_the_latent_of_years_is_on_the_digits_of_a_decade(smollm2: LoadedModel, dictionary: Dictionary) -> None:
    tokens, z = latents_on(smollm2, dictionary, "It was first sold in the late 1980s in two colours.")
    words = words_of(tokens)
    assert words[int(z[:, 355].argmax())] == "1980s"
    assert set(NAMED) == {355, *SENTENCES}


def test_the_word_that_a_token_is_in_is_made_of_its_neighbours() -> None:
    tokens = ["In", " the", " ", "1", "9", "8", "0", "s", ",", " she", "w", "ed", " {", "foo", "}."]
    assert words_of(tokens) == [
        *(
            "in",
            "the",
            "",
            "1980s",
            "1980s",
            "1980s",
            "1980s",
            "1980s",
            ",",
            "shewed",
            "shewed",
            "shewed",
            "{",
            "foo",
            "}.",
        )
    ]
