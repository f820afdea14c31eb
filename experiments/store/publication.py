"""Runs in data set repositories of a model hub: every file of a run in one commit, with a card, and back into a store.

1. A repository holds one complete run, `<run>/` as the store has it, with its list of checksums. A run that does not verify is not
   published, and one that is pulled is taken in only when every file fits.
2. The card names the rows as a table that the hub shows, and says arms, accuracies with intervals, and what was not checked.
3. Rows hold every generated text and the questions that were asked; whoever publishes them answers for the licence of both.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from steering.errors import BadInput
from steering.vector.hub.contents import CARD, LIBRARY, checked_licence
from steering.vector.hub.download import snapshot
from steering.vector.hub.markdown import line, plain
from steering.vector.hub.names import Address
from steering.vector.hub.session import Session
from steering.vector.hub.upload import Pushed, send

from .archive import members_of, take_in
from .files import StoreError
from .runs import Run, Store
from .seal import BAD, verified

TAG = "steering-run"


def publish_run(
    run: Run, name: str, table: str, *, licence: str = "", private: bool = False, endpoint: str | None = None
) -> Pushed:
    """Write a run into the data set repository `owner/name`, or its branch as `owner/name@branch`, in one commit; it is made where it is
    not there. `table` is Markdown of what the run shows, for the card.

    Raises StoreError for a run that is not complete or does not verify, BadInput for a hub that cannot be reached or refuses, and for a
    repository that holds anything but this run.
    """
    address, run_id = Address.parse(name), run.manifest.run_id
    files = run_files(run, address.repository, table, licence)
    return send(
        files, address, Session.of(endpoint), private, f"Run {run_id}", own=lambda file: file == CARD or file.startswith(f"{run_id}/"),
        what="run", kind="dataset",
    )  # fmt: skip


def run_files(run: Run, repository: str, table: str, licence: str = "") -> dict[str, bytes | Path]:
    """The files of a run's repository, by name: contents, or where they lie. Raises StoreError for a run that is not whole."""
    run_id = run.manifest.run_id
    if run.manifest.status != "complete":
        raise StoreError(f"Run {run_id} is {run.manifest.status}; let it end first, then publish it.")
    wrong = [one for one in verified(run.folder) if one.status in BAD]
    if wrong:
        raise StoreError(f"Run {run_id} does not verify, so it is not published: {wrong[0].problem}")
    held: dict[str, bytes | Path] = {}
    for member in sorted(members_of(run)):
        held[f"{run_id}/{member}"] = (run.folder / member).read_bytes()
    return {CARD: _card(run, repository, table, checked_licence(licence)).encode(), **held}


def pull_run(
    name: str,
    store: Store,
    revision: str | None = None,
    *,
    endpoint: str | None = None,
    cache: Path | str | None = None,
) -> Run:
    """Fetch a run from its data set repository, at one commit, and take it into a store once every file fits its checksum.

    Raises BadInput for a repository that is not there and a hub that cannot be reached, StoreError for what is no whole run, and for one
    that the store has.
    """
    address = Address.parse(name, revision)
    folder = snapshot(address, Session.of(endpoint, cache), ("*/*",), "dataset")
    where = f"{address.repository} at {folder.name[:12]}"
    if not any(folder.glob("*/run.json")):
        raise BadInput(f"{where} holds no run: name a data set repository that `steer runs publish` wrote.")
    return take_in(where, folder, store)


def _card(run: Run, repository: str, table: str, licence: str) -> str:
    manifest = run.manifest
    facts: dict[str, object] = {
        "library_name": LIBRARY,
        **({"license": licence} if licence else {}),
        "tags": [TAG, "activation-steering"],
        "configs": [
            {"config_name": "rows", "data_files": [{"split": "rows", "path": f"{manifest.run_id}/rows/*.parquet"}]}
        ],
    }
    arms = [line([plain(arm.name), plain(arm.label), arm.role, plain(arm.model)]) for arm in manifest.arms]
    parts = [
        f"---\n{yaml.safe_dump(facts, sort_keys=False, allow_unicode=True)}---",
        f"# {plain(manifest.run_id)}",
        "A run of steered and unsteered generations: every text, token, grade and edit, with what it was made from.",
        "\n".join([line(["arm", "what", "role", "model"]), line(["---"] * 4), *arms]),
        "## What it shows",
        table,
        "These are the author's own numbers, computed from the rows that lie here.",
        f"""## How to use it

```sh
steer runs pull {repository} --runs runs
steer runs show {manifest.run_id} --runs runs
steer runs reproduce {manifest.run_id} --runs runs --n 100
```

`{manifest.run_id}/SHA256SUMS` holds the sha256 of every file; a pull checks them, and `sha256sum -c` does too.""",
        "Licence: " + (plain(licence) if licence else "none is stated."),
    ]
    return "\n\n".join(parts) + "\n"
