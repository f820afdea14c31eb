"""Named latents of `smollm2-text`, counted on the texts that its training held back: how often one is active on the words of its name.

The names and their words were chosen on training texts. A latent is strongly active above a third of its peak there
(`statistics.safetensors`).
`python -m benchmarks.text_latents TEXTS` reads the file that docs/features.md makes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from statsmodels.stats.proportion import proportion_confint

from experiments.studies.autoencoders import stored_statistics, texts_of
from saes.corpus import encoded
from saes.loading import load_dictionary
from steering.model.models import load_model
from steering.model.prompts import token_texts

NAME, PIECE, STRONG = "smollm2-text", 256, 3
NAMED = {
    549: ("and, or", r"and|or|but|nor|&"),
    331: ("that", r"that"),
    60: ("thou, thy", r"thou|thee|thy|thine|ye|thyself"),
    861: ("verbs of speech", r"sa(id|y|ying|ith|ys)|spake|spoken|speak(eth)?|answered|told|tell|called|commanded|asked"),
    667: ("kin", r"sons?|fathers?|brothers?|brethren|daughters?|mothers?|wife|wives|child|children|sisters?|husband|firstborn"),
    193: (
        "she, women",
        r"she|her|hers|herself|wom[ae]n|wife|wives|mothers?|daughters?|sisters?|maidens?|damsel|widows?|harlot|concubines?|virgins?|bride|queen",
    ),
    132: ("David", r"david"),
    313: ("priests, prophets, disciples", r"(priest|prophet|disciple|apostle)s?"),
    355: ("years and decades", r"1[89]\d\d(s|-\d+)?|20\d\d|\d\d\d\ds?"),
    295: (
        "humour",
        r"humor(ous(ly)?)?|silly|jok(es?|ing)|funny|hilarious|amusing|parody|iron(y|ic|ically)|jocular(ly)?|laugh(ed|ter)?|puns?|satire|tongue"
        r"|cheek|comic|mock(ed)?|wry|flippant|playful",
    ),
}  # fmt: skip
"""What a person called latents, and the words that the name means (lower case, whole)."""


@dataclass(frozen=True)
class Count:
    """Tokens on which a latent is active, those of them in words of its name, and all tokens in such words."""

    active: int
    named: int
    words: int

    @property
    def precision(self) -> str:
        low, high = proportion_confint(self.named, self.active, method="wilson") if self.active else (0.0, 1.0)
        return f"{100 * self.named / max(self.active, 1):.0f} ({100 * low:.0f}-{100 * high:.0f}) of {self.active}"


def words_of(tokens: Sequence[str]) -> list[str]:
    """The word in lower case that each token is in: a run of tokens that go on with letters and digits."""
    found, start = [""] * len(tokens), 0
    for place in range(1, len(tokens) + 1):
        if place == len(tokens) or not (tokens[place][:1].isalnum() and tokens[place - 1][-1:].isalnum()):
            found[start:place] = ["".join(tokens[start:place]).strip().lower()] * (place - start)
            start = place
    return found


def main(texts: Annotated[Path, typer.Argument(help="The file that the autoencoder was trained on.")]) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    model, statistics = load_model("smollm2"), stored_statistics(NAME)
    dictionary = load_dictionary(NAME, model=model)
    _, held_back = texts_of(model, texts, 0, PIECE)
    columns, patterns = list(NAMED), {latent: re.compile(pattern) for latent, (_, pattern) in NAMED.items()}
    least = statistics.peak[columns] / STRONG
    weak, firm, total, seen = Counter[tuple[int, bool]](), Counter[tuple[int, bool]](), Counter[int](), 0
    examples: dict[int, Counter[str]] = {latent: Counter() for latent in columns}
    for batch in encoded(model, dictionary, held_back):
        z = batch.latents[..., columns]
        for row, number in enumerate(batch.texts):
            words = words_of(token_texts(model, held_back[number].ids))
            for place, word in enumerate(words):
                if not batch.mask[row, place]:
                    continue
                seen += 1
                for column, latent in enumerate(columns):
                    value, named = float(z[row, place, column]), patterns[latent].fullmatch(word) is not None
                    total[latent] += named
                    weak[latent, named] += value > 0
                    firm[latent, named] += value > least[column]
                    if value > least[column]:
                        examples[latent][word] += 1
    shown = Table(title=f"{NAME} on {seen:,} held-back tokens")
    for column in (
        "latent",
        "name",
        "% of tokens",
        "active: % named",
        "strong: % named",
        "% of named tokens",
        "strongest on",
    ):
        shown.add_column(column)
    for latent, (name, _) in NAMED.items():
        every = Count(weak[latent, True] + weak[latent, False], weak[latent, True], total[latent])
        most = Count(firm[latent, True] + firm[latent, False], firm[latent, True], total[latent])
        shown.add_row(
            str(latent), name, f"{100 * total[latent] / seen:.2f}", every.precision, most.precision,
            f"{100 * every.named / max(every.words, 1):.0f}", " ".join(w for w, _ in examples[latent].most_common(8)),
        )  # fmt: skip
    Console(width=200).print(shown)


if __name__ == "__main__":
    typer.run(main)
