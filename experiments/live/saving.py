"""A live generation into the run store, as an ordinary run: Compare, reports and `steer runs reproduce` take it as any other.

1. Rows that were cut short are refused: a row's key promises the whole row.
2. A receipt with a failed check is stored only under a name and facts that say so. What the receipt warns of is in the run's facts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..evaluation.summarise import summarise
from ..evaluation.summary import to_json
from ..store.files import write_whole
from ..store.manifest import Manifest
from ..store.runs import Run, Store, StoreError

MARK = "RECEIPT FAILED"


def save_live(
    store: Store,
    result: Mapping[str, Any],
    receipt: Mapping[str, Any],
    files: Mapping[str, str],
    marked: bool = False,
) -> Run:
    """Store `result` (manifest and rows); `files` are the vectors' files by digest. Returns the complete run.

    Raises StoreError for rows that were cut short, or whose receipt failed without `marked`.
    """
    rows = list(result["rows"])
    manifest = Manifest.model_validate(result["manifest"])
    if len(rows) < manifest.rows_expected or any(row["finish"] == "cancelled" for row in rows):
        raise StoreError("This generation was stopped before its end. Run it to the end to store it.")
    if receipt.get("ok") is False:
        if not marked:
            raise StoreError("The receipt of this generation failed; it is stored only with the mark that says so.")
        manifest = manifest.model_copy(
            update={
                "run_id": f"{manifest.run_id}-failed",
                "name": f"{manifest.name} ({MARK})",
                "facts": {**manifest.facts, "receipt": {"ok": False, "problems": list(receipt.get("problems", []))}},
            }
        )
    if receipt.get("warnings"):
        manifest = manifest.model_copy(update={"facts": {**manifest.facts, "warnings": list(receipt["warnings"])}})
    run = store.create(manifest)
    with run.local("vectors") as place:
        for digest, source in files.items():
            target = place / f"{digest}.safetensors"
            if not target.exists():
                write_whole(target, Path(source).read_bytes())
    run.write(rows)
    run.write_summary(json.loads(to_json(summarise(run.table(), run.manifest))))
    run.set_status("complete")
    return run
