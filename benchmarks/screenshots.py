"""`python -m benchmarks.screenshots RUNS OUT`: every page of the app, light and dark, wide and narrow, as small PNG files.

The pages show the first runs of the store that fit them. Needs Chromium and Pillow.
"""

from __future__ import annotations

import io
import shutil
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from experiments.store.runs import Store
from experiments.sweeps.cells import CARD

from .app import IDLE, served

WIDTHS, SCHEMES = (1400, 900), ("light", "dark")
HEIGHT, COLOURS = 1000, 96


def addresses(store: Store) -> dict[str, str]:
    """Path and query of every page."""
    runs = [e for e in store.list() if e.manifest is not None and not e.problem]
    demo = next((e.run_id for e in runs if e.run_id.startswith("demo-") and e.manifest and e.manifest.reference), "")
    sweep = next(
        (e.run_id for e in runs if (store.open(e.run_id).folder / CARD).is_file() and "-test-" not in e.run_id), ""
    )
    hybrid = next((e.run_id for e in runs if e.manifest and any(a.controller for a in e.manifest.arms)), "")
    return {
        "home": "", "playground": "playground", "compare": f"compare?run={demo}&cmp_show=helped", "results": f"results?run={demo}",
        "sweeps": f"sweeps?run={sweep}", "elicitation": "elicitation", "hybrid": f"hybrid?run={hybrid}",
        "vectors": "vectors", "make_vector": "make_vector", "monitor": "monitor", "features": "features", "runs": "runs",
        "jobs": "jobs", "health": "health",
    }  # fmt: skip


def main(
    runs: Annotated[Path, typer.Argument(help="Folder of a run store.")],
    out: Annotated[Path, typer.Argument(help="Where the pictures go.")],
    only: Annotated[str, typer.Option(help="Pages, comma-separated; all by default.")] = "",
) -> None:
    """Take the pictures. Exit code 1 when a page shows an error or the console does."""
    from PIL import Image
    from playwright.sync_api import sync_playwright

    out.mkdir(parents=True, exist_ok=True)
    faults: list[str] = []
    with served(runs) as (url, _):
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            for name, address in addresses(Store(runs)).items():
                if only and name not in only.split(","):
                    continue
                for width in WIDTHS:
                    for scheme in SCHEMES:
                        page = browser.new_page(viewport={"width": width, "height": HEIGHT}, color_scheme=scheme)  # type: ignore[arg-type]
                        page.on(
                            "console",
                            lambda m: faults.append(m.text) if m.type == "error" and "404" not in m.text else None,
                        )
                        page.goto(f"{url}/{address}")
                        page.wait_for_selector(IDLE)
                        time.sleep(2.5)
                        page.wait_for_selector(IDLE)
                        if page.locator('[data-testid="stException"]').count():
                            faults.append(f"{name}: an exception is shown")
                        whole = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
                        # The octree keeps the colours of few pixels, which tell roles apart; the median cut mixes them.
                        picture = whole.quantize(COLOURS, method=Image.Quantize.FASTOCTREE)
                        picture.save(out / f"{name}-{width}-{scheme}.png", optimize=True)
                        page.close()
                print(name, flush=True)
            browser.close()
    if faults:
        print("\n".join(faults), file=sys.stderr)
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
