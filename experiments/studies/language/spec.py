"""What the language study is asked to do: model, sizes and layers, as a frozen record."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from ...evaluation.loading import Loading

Share = Annotated[float, Field(gt=0, lt=1)]


class LanguageSpec(BaseModel):
    """Sizes that are not given here are those of docs/language.md."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    model: str = "smollm2"
    layers: tuple[Share, ...] = Field(default=(0.4, 0.5), min_length=1)
    """Where vectors are read and added, as shares of the depth; development prompts choose one."""
    pairs: int = Field(default=24, ge=4, le=24)
    """Pairs of texts that a vector is extracted from; those held out are always all twelve."""
    development: int = Field(default=12, ge=2, le=12)
    """Prompts that choose layer and dose."""
    test: int = Field(default=32, ge=2, le=32)
    """Beginnings that the chosen cell is tested on."""
    problems: int = Field(default=24, ge=2, le=24)
    """Word problems that the chosen cell is tested on."""
    new_tokens: PositiveInt = 20
    """Length of a continuation."""
    answer_tokens: PositiveInt = 40
    """Length of an answer to a word problem."""
    random: PositiveInt = 20
    """Random directions beside every cell."""
    random_on_test: PositiveInt = 39
    """Random directions beside the chosen cell on test prompts."""
    examples: PositiveInt = 100
    """Sentences of each class that a probe is fitted and measured on."""
    loading: Loading | None = None

    def sites(self, n_layers: int) -> tuple[int, ...]:
        """The layers of a model with `n_layers` of them, each once."""
        return tuple(dict.fromkeys(min(n_layers - 1, round(share * n_layers)) for share in self.layers))


def quick(model: str) -> LanguageSpec:
    """About a third of the work: one layer, fewer prompts, the fewest random directions that a verdict can be made of."""
    return LanguageSpec(
        model=model, layers=(0.4,), development=8, test=16, problems=12, new_tokens=16, answer_tokens=32, random=19
    )
