"""The Jacobian lens: which tokens a direction speaks for once the layers behind its site have passed it on, on average.

1. J = E[d h_final / d h_site] `[d_model, d_model]`, where h_final is the stream that enters the final norm. The readout of a direction v
   is the logit lens (`lens`) of J v; at the last layer J is the identity and both lenses are one.
2. The average is that of the published estimator, at its cost of one forward and ceil(d_model / block) backward passes per text: at a
   source position t the derivatives of h_final at all read positions t' >= t are summed, since one cotangent stands at all of them, so J
   says what a direction does to the prediction behind its own token and to later ones. Then comes the mean over a text's source
   positions, then the mean over texts. Where one position of a text is read, it is the derivative at that position.
3. A text's first `skip` positions, what lies before its `start` (a prompt, whose tokens the model was never asked to predict) and the
   model's attention sinks are neither sources nor targets; a text's last position, which the published code leaves out, is both. A text
   with no position left is passed over and counted. Equal texts are read once, or the halves below would share them.
4. A derivative says what a small push does, and an average of them what it does nowhere in particular: linear, and no measurement of a
   dose. How far it rests on the choice of texts is told by two lenses that share no text (`halves`), and whether a few positions
   with a massive activation speak for all others by `axis_share`.
5. Whatever adds to the stream has the derivative of what it is added to: at attn_out and mlp_out J is that of the summand. One head's
   output (`z`) is not in the stream, and is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import BadInput
from ..model.gradients import differentiable
from ..model.hooks import Edit
from ..model.models import LoadedModel
from ..model.sinks import sinks_of
from ..model.sites import Site
from ..vector.vectors import SteeringVector, read_tensors, whole, write_tensors
from .lens import LensToken, lens_logits, logit_ends
from .optimised import still

FORMAT = "steering-workbench/jacobian-lens@1"
SKIP, LONGEST, BLOCK = 16, 128, 32
"""Leading positions that are left out, tokens of a text that are read, rows of J per backward pass."""


class _Reached(Exception):
    """Ends a forward pass at the last layer."""


@dataclass(frozen=True)
class Fitted:
    """What a lens was fitted on."""

    model: str
    """Fingerprint of the weights."""
    model_id: str
    data: str
    """Hash of the token sequences and starts as they were read."""
    given: int
    """Texts that were given, `short` of which had no position left, and `alike` of which had been read before."""
    short: int
    alike: int
    texts: int
    positions: int
    """Source positions of all texts."""
    skip: int
    longest: int
    """Tokens from a text's beginning on that were read."""
    started: bool
    """Whether texts had a start of their own, before which nothing was read."""
    sinks: tuple[int, ...]
    """Positions of attention sinks, left out."""

    @property
    def sentence(self) -> str:
        """What was read, and what was not."""
        left = [
            f"{self.short} of {self.given} texts had no position left" if self.short else "",
            f"{self.alike} were read before" if self.alike else "",
        ]
        more = f" ({', '.join(filter(None, left))})" if any(left) else ""
        without = [
            f"the first {self.skip} positions",
            "prompts" * self.started,
            f"attention sinks at {', '.join(map(str, self.sinks))}" * bool(self.sinks),
        ]
        return (
            f"Fitted on {self.positions:,} positions of {self.texts} texts{more}: the first {self.longest} tokens of each, without "
            f"{' and '.join(filter(None, without))}."
        )


@dataclass(frozen=True, eq=False)
class JacobianLens:
    """The average Jacobian `[d_model, d_model]` (float32: rows are h_final's coordinates, columns the site's). Raises BadInput where shapes
    do not fit together, or a number is not finite."""

    site: Site
    matrix: Tensor
    halves: Tensor
    """`[2, d_model, d_model]`: the lenses of every other text, and of those between; `matrix` is their mean, each weighted by its texts."""
    provenance: Fitted

    def __post_init__(self) -> None:
        for name in ("matrix", "halves"):
            value = getattr(self, name).detach().to("cpu", torch.float32).contiguous()
            if not torch.isfinite(value).all():
                raise BadInput(f"The Jacobian lens at {self.site} holds NaN or infinity.")
            object.__setattr__(self, name, value)
        if self.matrix.ndim != 2 or self.matrix.shape[0] != self.matrix.shape[1]:
            raise BadInput(f"A Jacobian lens of shape {list(self.matrix.shape)}; [d_model, d_model] is needed.")
        if self.halves.shape != (2, *self.matrix.shape):
            raise BadInput(f"Halves of shape {list(self.halves.shape)}; {[2, *self.matrix.shape]} is needed.")

    @property
    def halves_difference(self) -> float:
        """Frobenius norm of the difference of the halves over that of the lens: 0 where both say the same. The lens itself, from all texts,
        is off by about half of it."""
        return float((self.halves[0] - self.halves[1]).double().norm() / self.matrix.double().norm())

    @property
    def axis_share(self) -> float:
        """Share of the lens's squared Frobenius norm along its longest axis: 1 / d_model for the identity. Near 1, whatever goes in comes
        out along one direction."""
        return float(torch.linalg.matrix_norm(self.matrix.double(), 2) / self.matrix.double().norm()) ** 2

    @property
    def digest(self) -> str:
        """Hash of the numbers and the site: 16 hexadecimal digits."""
        return hashlib.sha256(self.matrix.numpy().tobytes() + self.site.name.encode()).hexdigest()[:16]

    def check(self, model: LoadedModel) -> None:
        """Raises BadInput for a model with other weights than those that the lens was fitted on."""
        if self.provenance.model != model.fingerprint:
            raise BadInput(
                f"This Jacobian lens was fitted on {self.provenance.model_id} ({self.provenance.model}), not on {model.id} "
                f"({model.fingerprint}); fit one on {model.id} (`steer vectors lens --model`)."
            )

    def carried(self, direction: Tensor) -> Tensor:
        """J v `[d_model]` float64: the change of h_final per unit of a direction `[d_model]` at the site."""
        return self.matrix.double() @ direction.double().cpu()

    def halves_cosine(self, direction: Tensor) -> float:
        """Cosine of what the two halves make of a direction."""
        one, other = self.halves.double() @ direction.double().cpu()
        return float(torch.nn.functional.cosine_similarity(one, other, dim=0))

    def save(self, path: Path | str) -> Path:
        """Write to `path` atomically."""
        facts = {"site": self.site.name, "provenance": asdict(self.provenance)}
        tensors = {"matrix": self.matrix, "halves": self.halves}
        return write_tensors(path, tensors, {"format": FORMAT, "lens": json.dumps(facts, sort_keys=True)})

    @staticmethod
    def load(path: Path | str) -> JacobianLens:
        """Read what `save` wrote. Raises BadInput for anything else."""
        tensors, metadata = read_tensors(path, FORMAT, "Jacobian lens")
        with whole(path):
            facts = json.loads(metadata["lens"])
            record = {**facts["provenance"], "sinks": tuple(facts["provenance"]["sinks"])}
            return JacobianLens(Site.parse(facts["site"]), **tensors, provenance=Fitted(**record))


@torch.inference_mode(False)
def fit_jacobian(
    model: LoadedModel,
    texts: Sequence[Sequence[int]],
    sites: Sequence[Site],
    *,
    starts: Sequence[int] | None = None,
    skip: int = SKIP,
    longest: int = LONGEST,
    block: int = BLOCK,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[Site, JacobianLens]:
    """Lenses of several sites, fitted in one pass over `texts` (token ids with their BOS), of each from position `starts` on, or from the
    beginning. `block` rows of J are taken per backward pass; it bounds the memory and changes nothing but rounding. `on_progress` takes
    (texts done, texts in all).

    Raises BadInput for a site without a lens, and when fewer than two different texts have a position left.
    """
    places = {site: _written_at(model, site) for site in sites}
    if not places:
        raise BadInput("A Jacobian lens needs a site, such as blocks.1.hook_resid_post.")
    longest = min(longest, model.context)
    if skip < 0 or block < 1 or longest <= skip:
        raise BadInput(
            f"skip {skip}, longest {longest}, block {block}: skip is from 0 on, and less than longest; block is from 1 on."
        )
    sinks = sinks_of(model).positions
    begin = [max(skip, start) for start in starts] if starts is not None else [skip] * len(texts)
    cut = [(tuple(map(int, text[:longest])), start) for text, start in zip(texts, begin, strict=True)]
    fed = [text for text in cut if _read_of(*text, sinks)]
    read = list(dict.fromkeys(fed))
    if len(read) < 2:
        left = [f"a text's first {skip} tokens", "prompts" * (starts is not None), "attention sinks" * bool(sinks)]
        raise BadInput(
            f"{len(read)} of {len(texts)} texts can be read, and a Jacobian lens needs two different ones. Left out are "
            f"{', '.join(filter(None, left))}; the longest text has {max(map(len, texts), default=0)} tokens, of which at most {longest} "
            "are read. Give longer texts, or a smaller skip."
        )
    wanted = sorted(set(places.values()))
    sums = {place: torch.zeros(2, model.d_model, model.d_model, dtype=torch.float64) for place in wanted}
    positions = 0
    for number, (text, start) in enumerate(read):
        at = _read_of(text, start, sinks)
        positions += len(at)
        for place, found in zip(wanted, _jacobians(model, text, at, wanted, block), strict=True):
            if not torch.isfinite(found).all():
                raise BadInput(
                    f"The derivative at {place} is NaN or infinite on text {number + 1} in {model.dtype}; fit in float32."
                )
            sums[place][number % 2] += found
        if on_progress is not None:
            on_progress(number + 1, len(read))
    data = hashlib.sha256(json.dumps(read).encode()).hexdigest()[:16]
    fitted = Fitted(
        model.fingerprint, model.id, data, len(texts), len(texts) - len(fed), len(fed) - len(read), len(read), positions, skip, longest,
        starts is not None, sinks,
    )  # fmt: skip
    counts = torch.tensor([len(read[0::2]), len(read[1::2])], dtype=torch.float64)[:, None, None]
    return {
        site: JacobianLens(site, sums[place].sum(0) / len(read), sums[place] / counts, fitted)
        for site, place in places.items()
    }


def _written_at(model: LoadedModel, site: Site) -> Site:
    """The site whose derivative is that of `site`: what attention adds goes into resid_mid unchanged."""
    model.layout.check(site)
    if site.kind == "z":
        raise BadInput(
            f"{site} is one head's output before the output projection, which is not in the residual stream, so it has no Jacobian lens; "
            f"use a site of the stream, such as {Site(site.layer)}."
        )
    return Site(site.layer, "attn_out") if site.kind == "resid_mid" else site


def _read_of(text: Sequence[int], start: int, sinks: Sequence[int]) -> list[int]:
    """Positions of a text that are read."""
    return [p for p in range(start, len(text)) if p not in sinks]


def _jacobians(
    model: LoadedModel, text: Sequence[int], positions: Sequence[int], sites: Sequence[Site], block: int
) -> list[Tensor]:
    """Of one text and each site: the mean over source `positions` of the derivatives of h_final there and later, `[d_model, d_model]`
    float64.

    The text is read `block` times in one batch; copy b of it has its cotangent in coordinate start + b, at every position.
    """
    width = model.d_model
    block = min(block, width)
    at = torch.tensor(positions, device=model.device)
    found = [torch.zeros(width, width, dtype=torch.float64) for _ in sites]
    with torch.enable_grad(), still(model):
        final, added = _final(model, text, sites, block)
        cotangent = torch.zeros_like(final)
        for start in range(0, width, block):
            rows = min(block, width - start)
            copies = torch.arange(rows, device=final.device)
            cotangent.zero_()
            cotangent[copies[:, None], at.to(final.device), start + copies[:, None]] = 1.0
            gradients = torch.autograd.grad(final, added, cotangent, retain_graph=start + block < width)
            for matrix, gradient in zip(found, gradients, strict=True):
                matrix[start : start + rows] = gradient[:rows, at.to(gradient.device)].double().mean(1).cpu()
    return found


def _final(model: LoadedModel, text: Sequence[int], sites: Sequence[Site], copies: int) -> tuple[Tensor, list[Tensor]]:
    """h_final `[copies, positions, d_model]`, and per site the zeros that were added there, with which its derivative is taken."""
    last, added, reached = Site(model.n_layers - 1), dict[Site, Tensor](), list[Tensor]()

    def edit_of(site: Site) -> Edit:
        def edit(hidden: Tensor) -> Tensor:
            if site in sites:
                added[site] = torch.zeros_like(hidden, requires_grad=True)
                hidden = hidden + added[site]
            if site == last:  # the final norm and the unembedding are not computed
                reached.append(hidden)
                raise _Reached
            return hidden

        return edit

    ids = torch.tensor([text], device=model.device).expand(copies, -1)
    with differentiable(model, {site: edit_of(site) for site in {*sites, last}}) as run:
        try:
            run(input_ids=ids, use_cache=False)
        except _Reached:
            pass
    return reached[0], [added[site] for site in sites]


def jacobian_logits(model: LoadedModel, lens: JacobianLens, vector: SteeringVector) -> Tensor:
    """Logits `[vocabulary]` of a vector through the lens of its site: odd in it, and independent of its length.

    Raises BadInput for a lens of another model or site, and for a direction that it takes to zero.
    """
    lens.check(model)
    vector.check(model)
    if vector.site != lens.site:
        raise BadInput(
            f"Vector {vector.name!r} is at {vector.site}, and this lens is of {lens.site}; fit one at {vector.site}."
        )
    carried = lens.carried(vector.direction)
    if not float(carried.norm()):
        raise BadInput(
            f"Nothing of vector {vector.name!r} at {vector.site} reaches the last layer, so it speaks for no token."
        )
    return lens_logits(model, carried)


def jacobian_tokens(
    model: LoadedModel, lens: JacobianLens, vector: SteeringVector, count: int = 10
) -> tuple[tuple[LensToken, ...], tuple[LensToken, ...]]:
    """(most promoted first, most demoted first), `count` tokens each. Raises BadInput as `jacobian_logits`."""
    return logit_ends(model, jacobian_logits(model, lens, vector), count)
