"""Names that people, and judges, give to latents: `.labels/` of a local store, one JSON file per autoencoder, read without a model library.

1. A latent has at most one label of one's own and one judged one, which says by whom it was judged. The two are never mixed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from steering.errors import BadInput

from .files import write_whole

LONGEST = 200
"""Letters of a label."""


@dataclass(frozen=True)
class Label:
    """What a latent is called."""

    own: str = ""
    judged: str = ""
    judge: str = ""
    """Who gave the judged one."""

    def __post_init__(self) -> None:
        for text in (self.own, self.judged, self.judge):
            if not isinstance(text, str) or len(text) > LONGEST:
                raise BadInput(f"A label has at most {LONGEST} letters; this one is {str(text)[:60]!r}.")


def path_of(root: Path | str, sae: str) -> Path:
    """The file of an autoencoder's labels. Raises BadInput for a store at a URL."""
    if "://" in str(root):
        raise BadInput("Labels lie in a local store; this one is at a URL.")
    return Path(root) / ".labels" / f"{re.sub(r'[^A-Za-z0-9._-]', '_', sae)[:120]}.json"


def labels_of(root: Path | str, sae: str) -> dict[int, Label]:
    """Labels by latent; none where nobody gave one. Raises BadInput for a file that is none of labels."""
    path = path_of(root, sae)
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {int(number): Label(**one) for number, one in found.items()}
    except (ValueError, TypeError, AttributeError, OSError) as error:
        raise BadInput(f"{path} holds no labels of latents ({error}); mend it or take it away.") from error


def write_labels(root: Path | str, sae: str, labels: Mapping[int, Label]) -> Path:
    """Store all labels of an autoencoder; empty ones are left out."""
    path = path_of(root, sae)
    kept = {str(number): asdict(one) for number, one in sorted(labels.items()) if one.own or one.judged}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps(kept, indent=1, ensure_ascii=False) + "\n").encode())
    return path
