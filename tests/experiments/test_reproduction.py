"""A run generated again: equal where nothing changed, and the first token that differs where something did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from experiments.commands import cli
from experiments.evaluation.evaluate import run_evaluation
from experiments.evaluation.reproduction import reproduce
from experiments.store.runs import ROW_SCHEMA, Run, Store, StoreError
from experiments.store.shards import read_shard, shard_bytes, write_shard
from steering.model.models import load_model
from steering.model.sites import Site
from steering.vector.vectors import Provenance, SteeringVector, random_like
from tests.experiments.fake_run import make_fake_run
from tests.experiments.test_evaluation import small_spec


def a_vector() -> SteeringVector:
    """A direction that changes what is generated."""
    import torch

    width = load_model("builtin:base").d_model
    return random_like(SteeringVector("ones", Site(1), torch.full((width,), 0.3), Provenance("test", "none")), 0)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Run:
    vector = a_vector()
    spec = small_spec(vector, n=6, temperature=1.0, seeds=(0, 1)).model_copy(update={"rows_per_chunk": 12})
    return run_evaluation(spec, Store(tmp_path_factory.mktemp("runs")), {vector.digest: vector})


def test_what_was_stored_is_generated_again(stored: Run) -> None:
    before = {p: p.read_bytes() for p in stored.folder.rglob("*") if p.is_file()}
    told: list[tuple[int, int]] = []
    found = reproduce(stored, on_rows=lambda done, total: told.append((done, total)))
    assert (found.exact, found.rows, found.same, found.partings) == (True, 36, 36, ())
    assert (found.absent, found.other_keys, dict(found.facts)) == (0, 0, {}) and told[-1] == (36, 36)
    sample = reproduce(stored, 10)
    assert sample.exact and sample.rows == 12
    assert {p: p.read_bytes() for p in stored.folder.rglob("*") if p.is_file()} == before


def test_the_first_token_that_differs_is_named(stored: Run, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    import shutil

    root = tmp_path / "runs"
    shutil.copytree(stored.folder, root / stored.manifest.run_id)
    run = Store(root).open(stored.manifest.run_id)
    path = run.shards()[0]
    rows = read_shard(path).to_pylist()
    rows[3]["token_ids"][2] += 1
    rows[3]["tokens"][2] = "elsewhere"
    write_shard(path, shard_bytes(ROW_SCHEMA.empty_table().from_pylist(rows, schema=ROW_SCHEMA)))
    found = reproduce(run)
    (parting,) = found.partings
    assert not found.exact and found.same == 35 and parting.position == 2 and parting.stored == "elsewhere"
    assert (parting.arm, parting.item, parting.seed) == tuple(rows[3][name] for name in ("arm", "item", "seed"))
    assert parting.again != "elsewhere"
    path.unlink()
    assert reproduce(run).absent == 12
    write_shard(path, shard_bytes(ROW_SCHEMA.empty_table().from_pylist(rows, schema=ROW_SCHEMA)))
    monkeypatch.setattr(
        "sys.argv", ["steer", "runs", "reproduce", stored.manifest.run_id, "--runs", str(root), "--json"]
    )
    with pytest.raises(SystemExit) as end:
        cli.main()
    document = json.loads(capsys.readouterr().out)
    assert end.value.code == 1 and document["same"] == 35 and not document["exact"]
    assert document["partings"][0]["stored"] == "elsewhere"


def test_a_run_without_an_evaluation_spec_cannot_be_generated_again(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="was not made from an evaluation spec"):
        reproduce(make_fake_run(tmp_path, 2))
