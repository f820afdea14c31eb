"""KL along a row's own text: stored readings, beside the run that they belong to.

1. `<run>/kl/<key>.parquet` holds, per generated token in nats, `divergence` = KL(with the plan || without it) of its prediction when both
   read the stored tokens (`steering.engine.forced`), and `logprob` and `unsteered_logprob` of the token. It is derived: it can be deleted,
   and is made again by `steer trace kl RUN KEY`.
2. A reading carries its row's key and a hash of the tokens it read; one that is damaged or of other tokens is not used, and says so.
3. Looking at stored readings imports no model library; `backfill` does.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..store.files import StoreError
from ..store.runs import Run

if TYPE_CHECKING:
    from steering.model.models import LoadedModel

FOLDER = "kl"
COLUMNS = ("divergence", "logprob", "unsteered_logprob")
_VERSION = b"1"


def _digest(row: Mapping[str, Any]) -> bytes:
    text = f"{row['key']}|{list(row['prompt_ids'])}|{list(row['token_ids'])}"
    return hashlib.sha256(text.encode()).hexdigest().encode()


def _checksum(table: pa.Table) -> bytes:
    return hashlib.sha256(b"".join(table[name].to_numpy().tobytes() for name in COLUMNS)).hexdigest().encode()


def write_kl(run: Run, row: Mapping[str, Any], columns: Mapping[str, list[float]]) -> None:
    """Store a reading of a row. Raises StoreError for columns that are not as long as its text."""
    table = pa.table({name: pa.array(columns[name], pa.float32()) for name in COLUMNS})
    if len(table) != len(row["token_ids"]):
        raise StoreError(
            f"A reading of {len(table)} tokens does not belong to row {row['key']!r} with {len(row['token_ids'])}."
        )
    facts = {b"version": _VERSION, b"tokens": _digest(row), b"sha256": _checksum(table)}
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(facts), sink, compression="zstd")
    run.keep(f"{FOLDER}/{row['key']}.parquet", sink.getvalue())


def read_kl(run: Run, row: Mapping[str, Any]) -> dict[str, list[float]] | None:
    """The reading of a row; None where there is none. Raises StoreError for one that is damaged or belongs to other tokens."""
    path = run.folder / FOLDER / f"{row['key']}.parquet"
    remedy = f"Delete it; `{command(run.manifest.run_id, str(row['key']))}` makes it again."
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        table = pq.read_table(io.BytesIO(data))
        facts = table.schema.metadata or {}
        sound = facts.get(b"sha256") == _checksum(table)
    except (pa.ArrowException, KeyError, OSError) as error:
        raise StoreError(f"{path} cannot be read. {remedy}") from error
    if not sound or facts.get(b"version") != _VERSION:
        raise StoreError(f"{path} is damaged or of another version. {remedy}")
    if facts.get(b"tokens") != _digest(row) or len(table) != len(row["token_ids"]):
        raise StoreError(f"{path} was read along other tokens than row {row['key']!r} has. {remedy}")
    return {name: table[name].to_pylist() for name in COLUMNS}


def with_kl(run: Run, row: Mapping[str, Any]) -> dict[str, Any]:
    """The row, with `kl` where a reading is stored and sound."""
    try:
        found = read_kl(run, row)
    except StoreError:
        found = None
    return dict(row) if found is None else {**row, "kl": found["divergence"]}


def command(run_id: str, key: str) -> str:
    """The command that computes a reading."""
    return f"steer trace kl {run_id} {key}"


def why_not(run: Run, row: Mapping[str, Any]) -> str | None:
    """Why a row cannot have a reading; None where it can."""
    arm = next((arm for arm in run.manifest.arms if arm.name == row["arm"]), None)
    if arm is None or not arm.plan or not arm.plan.get("interventions"):
        return "this arm is unsteered"
    if arm.controller is not None:
        return "two models write a hybrid's text in turns, so no single plan can be read along it"
    if not row["token_ids"]:
        return "the row has no tokens"
    gates = [entry.get("gate") or {} for entry in arm.plan["interventions"]]
    if any(isinstance(gate, Mapping) and gate.get("kind") == "entropy" for gate in gates):
        return "an entropy gate reads each prediction before the next token, which a forced reading makes all at once"
    return None


def backfill(run: Run, key: str, model: LoadedModel | None = None) -> dict[str, Any]:
    """Compute and store the reading of one row. Returns its numbers in short: `tokens`, `mean`, `largest` and `at` in nats and index, and
    `off`: the largest gap between the log-probabilities read and stored, in nats.

    `model` is the arm's, loaded; by default it is loaded as the run's spec says. Raises StoreError for a row that cannot have one,
    and for a model with other weights than the run's.
    """
    from steering.engine.forced import ForcedText, forced_divergence
    from steering.plan.plan import Plan

    from ..evaluation.loading import Loading, load
    from ..evaluation.stored_vectors import run_vectors

    row = run.trace(key)
    reason = why_not(run, row)
    if reason is not None:
        raise StoreError(f"Row {key!r} of run {run.manifest.run_id!r} has no KL along its text: {reason}.")
    arm = next(arm for arm in run.manifest.arms if arm.name == row["arm"])
    if model is None:
        loading = run.manifest.spec.get("loading")
        model = load(arm.model, None if loading is None else Loading.model_validate(loading))
    before = run.manifest.facts.get("models", {}).get(arm.model)
    if before is not None and before != model.fingerprint:
        raise StoreError(
            f"The weights of {arm.model} are not those of run {run.manifest.run_id!r} ({before}); here they are {model.fingerprint}."
        )
    plan = Plan.from_dict(arm.plan or {}, run_vectors(run))
    found = forced_divergence(model, [ForcedText(tuple(row["prompt_ids"]), tuple(row["token_ids"]), plan)])[0]
    write_kl(run, row, {name: list(getattr(found, name)) for name in COLUMNS})
    kl = found.divergence
    off = max((abs(a - b) for a, b in zip(found.logprob, row["logprob"], strict=True)), default=0.0)
    return {
        "tokens": len(kl),
        "mean": sum(kl) / len(kl),
        "largest": max(kl),
        "at": max(range(len(kl)), key=kl.__getitem__),
        "off": off,
    }
