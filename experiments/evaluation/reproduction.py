"""A run generated again from its spec, and compared token id for token id with what is stored.

1. Whole chunks run again, in the batch geometry in which they were stored, into a fresh temporary store.
2. Rows are joined on split, arm, item and seed; a row whose key is another one now (other weights, tokenizer, task) is counted.
3. The stored run is only read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ..store.runs import Run, Store, StoreError

if TYPE_CHECKING:
    from steering.model.models import LoadedModel

IDENTITY = ("split", "arm", "item", "seed")


@dataclass(frozen=True)
class Parting:
    """A row whose tokens are not the stored ones, and the first place where they part."""

    split: str
    arm: str
    item: str
    seed: int
    position: int
    """Generated tokens before the first that differs."""
    stored: str | None
    """The token there, as text; None where the stored row has ended."""
    again: str | None


@dataclass(frozen=True)
class Reproduction:
    """What running again gave."""

    rows: int
    """Rows compared."""
    same: int
    """Rows with the stored token ids."""
    partings: tuple[Parting, ...]
    absent: int
    """Rows that were generated and are not stored: of an unfinished run."""
    other_keys: int
    """Rows whose key differs from the stored one."""
    facts: Mapping[str, tuple[Any, Any]]
    """Models, tokenizers and versions that differ: stored, and now."""

    @property
    def exact(self) -> bool:
        """Whether every row that was compared is the same, and there was one."""
        return self.rows > 0 and self.same == self.rows


def reproduce(
    run: Run,
    n: int | None = None,
    *,
    models: dict[str, LoadedModel] | None = None,
    on_rows: Callable[[int, int], None] | None = None,
) -> Reproduction:
    """Run a stored evaluation again, all of it or chunks from all over it with at least `n` rows.

    Raises StoreError for a run that no evaluation spec made, and BadInput as `run_evaluation`.
    """
    import torch
    import transformers

    from ..tasks.task import resolve_task
    from .hybrids import FOLDER, stored_controller
    from .loading import load
    from .records import chunk_records
    from .rows import Parts, chunks_of, models_of, rules_of
    from .spec import EvalSpec
    from .stored_vectors import run_vectors

    try:
        spec = EvalSpec.model_validate(run.manifest.spec)
    except ValidationError as error:
        raise StoreError(
            f"Run {run.manifest.run_id!r} was not made from an evaluation spec, so it cannot be generated again."
        ) from error
    models = {} if models is None else models
    for name in models_of(spec):
        if name not in models:
            models[name] = load(name, spec.loading)
    with run.local(FOLDER) as place:
        known = [stored_controller(place, arm.controller) for arm in spec.arms if arm.controller is not None]
    rules = rules_of(spec, {rule.digest: rule for rule in known})
    parts = Parts(resolve_task(spec.task), models, run_vectors(run), rules)
    chunks = list(chunks_of(spec, parts))
    if n is not None:
        wanted = min(len(chunks), max(1, -(-n * len(chunks) // sum(map(len, chunks)))))
        chunks = [chunks[i * len(chunks) // wanted] for i in range(wanted)]
    total, done = sum(map(len, chunks)), 0
    with TemporaryDirectory() as scratch:
        fresh = Store(scratch).create(run.manifest)
        for chunk in chunks:
            fresh.write(chunk_records(chunk, spec, parts))
            done += len(chunk)
            if on_rows is not None:
                on_rows(done, total)
        found = _compared(run, fresh)
    now = {
        **{f"models.{name}": model.fingerprint for name, model in models.items()},
        **{f"tokenizers.{name}": model.tokenizer_fingerprint for name, model in models.items()},
        **{"torch": torch.__version__, "transformers": transformers.__version__},
    }
    facts = run.manifest.facts
    before = {
        **{f"{kind}.{name}": value for kind in ("models", "tokenizers") for name, value in facts.get(kind, {}).items()},
        **{name: facts.get(name) for name in ("torch", "transformers")},
    }
    changed = {name: (before.get(name), value) for name, value in now.items() if before.get(name) != value}
    return Reproduction(**found, facts=changed)


def _compared(run: Run, fresh: Run) -> dict[str, Any]:
    """Rows of `fresh` beside those of `run`."""
    again = fresh.table([*IDENTITY, "key", "token_ids", "tokens"]).to_pylist()
    index = run.index().read([*IDENTITY, "key"]).to_pylist()
    keys = {tuple(row[name] for name in IDENTITY): row["key"] for row in index}
    held = [row for row in again if tuple(row[name] for name in IDENTITY) in keys]
    here = [keys[tuple(row[name] for name in IDENTITY)] for row in held]
    stored = run.traces(here, ["token_ids", "tokens"]).to_pylist()
    partings = [
        _parting(new, old) for new, old in zip(held, stored, strict=True) if new["token_ids"] != old["token_ids"]
    ]
    return {
        "rows": len(held),
        "same": len(held) - len(partings),
        "partings": tuple(partings),
        "absent": len(again) - len(held),
        "other_keys": sum(row["key"] != key for row, key in zip(held, here, strict=True)),
    }


def _parting(new: Mapping[str, Any], old: Mapping[str, Any]) -> Parting:
    pairs = zip(new["token_ids"], old["token_ids"], strict=False)
    shorter = min(len(new["token_ids"]), len(old["token_ids"]))
    place = next((i for i, (a, b) in enumerate(pairs) if a != b), shorter)
    stored, again = (row["tokens"][place] if place < len(row["tokens"]) else None for row in (old, new))
    return Parting(new["split"], new["arm"], new["item"], new["seed"], place, stored, again)
