"""Published `.pt` files of papers: named directions, and mean activations per behaviour.

1. Read without running code (`pickles`); shapes, counts and finiteness are checked before anything is computed.
2. Behaviour means become vectors as their authors make them (arXiv 2506.18167): label mean minus overall mean, rescaled to the norm of
   the overall mean at that layer.
3. A label whose mean rests on few spans carries a warning, on the set and in every vector made from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ...errors import BadInput, unknown
from ...model.sites import Site
from ..vectors import UNKNOWN, Provenance, SteeringVector
from .pickles import as_tensor, unpickle
from .source import Source

BASELINE = "overall"
FEW_SPANS = 30
"""Below this many spans a mean is mostly the noise of single spans: its error is above 1/√30 = 18 % of their spread."""


def import_directions(
    path: Path | str, *, site: Site | str, model_id: str = "", method: str = "imported direction"
) -> dict[str, SteeringVector]:
    """Named vectors `[d_model]` of a file that maps names to rows, or that holds one bare row (named after the file).

    The files name no site, so `site` is asked for. The optimised vectors of arXiv 2510.07364 v1 (Llama-3.1-8B, layer 12) were trained at
    `blocks.12.hook_resid_pre` and applied at `blocks.12.hook_resid_post`.
    """
    source, site = Source.read(path), Site.parse(site)
    content = unpickle(source)
    rows = content if isinstance(content, Mapping) else {source.path.stem: content}
    if not rows:
        raise BadInput(f"{source.path} is an empty mapping; names with rows [d_model] are needed.")
    vectors = {}
    for name, value in rows.items():
        if isinstance(value, Mapping):
            raise BadInput(f"{source.path}: {name!r} is a mapping. For behaviour means use import_behaviour_means.")
        row = as_tensor(value, f"{source.path}: {name!r}")
        provenance = Provenance(method, UNKNOWN, model_id, notes=source.note("named directions", site=site.name))
        vectors[str(name)] = SteeringVector(str(name), site, row, provenance)
    return vectors


@dataclass(frozen=True, eq=False)
class BehaviourMean:
    """Mean activation of one label at one layer."""

    label: str
    layer: int
    """0-based decoder layer, at its output."""
    mean: Tensor
    """`[d_model]`"""
    count: int
    """Spans averaged, as the file says."""
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class BehaviourMeans:
    """Mean layer outputs per label, `[layer, d_model]`, with the number of spans behind each; `overall` is the baseline."""

    means: Mapping[str, Tensor]
    counts: Mapping[str, int]
    model_id: str
    notes: Mapping[str, Any]

    @property
    def labels(self) -> tuple[str, ...]:
        """The behaviours, without the baseline, in the file's order."""
        return tuple(label for label in self.means if label != BASELINE)

    @property
    def n_layers(self) -> int:
        return self.means[BASELINE].shape[0]

    @property
    def d_model(self) -> int:
        return self.means[BASELINE].shape[1]

    @property
    def warnings(self) -> Mapping[str, tuple[str, ...]]:
        """What is doubtful, by label; labels without doubt are absent."""
        few = {label: self.counts[label] for label in self.labels if self.counts[label] < FEW_SPANS}
        return {
            label: (f"{label!r} is the mean of {n} span{'s' if n > 1 else ''}; fewer than {FEW_SPANS} are too few.",)
            for label, n in few.items()
        }

    def at(self, label: str, layer: int) -> BehaviourMean:
        """The mean of `label` (or of the baseline) at the output of 0-based `layer`. Raises BadInput for an unknown one."""
        if label not in self.means:
            raise unknown("label", label, self.means)
        if not 0 <= layer < self.n_layers:
            raise BadInput(f"Layer {layer} does not exist: the means cover layers 0 to {self.n_layers - 1}.")
        return BehaviourMean(label, layer, self.means[label][layer], self.counts[label], self.warnings.get(label, ()))

    def vector(self, label: str, layer: int, *, rescaled: bool = True) -> SteeringVector:
        """u = m_label - m_overall at the output of `layer`, `[d_model]`, times ‖m_overall‖ / ‖u‖ (arXiv 2506.18167, code).

        `rescaled=False` keeps the raw difference, whose length grows with depth.
        """
        if label == BASELINE:
            raise BadInput(f"{BASELINE!r} is the baseline that is subtracted. Labels: {', '.join(self.labels)}.")
        read, baseline = self.at(label, layer), self.at(BASELINE, layer)
        difference = read.mean.double() - baseline.mean.double()
        contrast = f"mean of {label!r} spans minus {BASELINE} mean, at the output of layer {layer}"
        if rescaled and float(difference.norm()) > 0:
            difference = difference * (baseline.mean.double().norm() / difference.norm())
            contrast += f"; rescaled to the norm of the {BASELINE} mean"
        notes = {**self.notes, **({"warnings": list(read.warnings)} if read.warnings else {})}
        provenance = Provenance(
            "behaviour mean difference",
            UNKNOWN,
            self.model_id,
            contrast,
            counts=(read.count, baseline.count),
            notes=notes,
        )
        return SteeringVector(label, Site(layer), difference, provenance)


def import_behaviour_means(path: Path | str, *, model_id: str = "") -> BehaviourMeans:
    """Read `{label: {"mean": [layer, d_model], "count": n}}` with a label `overall`. `model_id` says whose activations they are."""
    source = Source.read(path)
    content = unpickle(source)
    if not isinstance(content, Mapping) or not all(isinstance(entry, Mapping) for entry in content.values()):
        raise BadInput(
            f"{source.path} is not a mapping of labels to mean and count. For named directions use import_directions."
        )
    if BASELINE not in content:
        raise BadInput(f"{source.path} has no label {BASELINE!r}, the mean that the others are compared with.")
    means: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    for label, entry in content.items():
        where = f"{source.path}: label {label!r}"
        if not {"mean", "count"} <= set(entry):
            raise BadInput(f"{where} holds {sorted(map(str, entry))}; mean and count are needed.")
        mean, count = as_tensor(entry["mean"], f"{where}, mean"), entry["count"]
        if mean.ndim != 2 or not mean.isfinite().all():
            raise BadInput(
                f"{where}, mean: finite numbers of shape [layer, d_model] are needed, not {list(mean.shape)}."
            )
        if means and mean.shape != next(iter(means.values())).shape:
            raise BadInput(f"{where} has shape {list(mean.shape)}, unlike the labels before it.")
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise BadInput(f"{where}: count is {count!r}; a whole number of spans above 0 is needed.")
        means[str(label)], counts[str(label)] = mean, count
    note = source.note("behaviour means", layers="output of 0-based decoder layer")
    return BehaviourMeans(means, counts, model_id, note)
