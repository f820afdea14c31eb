"""One contender in its own process: reads workloads as JSON lines, answers with seconds, peak memory and tokens.

Started as `python worker.py CONTENDER MODEL_FOLDER THREADS`; it needs torch and the contender's own library, and nothing of this
project unless the contender is this project.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
import time
from pathlib import Path


class Peak:
    """Largest resident memory while the context lasts, looked at every 20 ms; on a GPU what its allocator held at most."""

    def __enter__(self) -> Peak:
        self.mib, self._over = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self.look()

    def look(self) -> None:
        import torch

        if torch.cuda.is_available():
            self.mib = torch.cuda.max_memory_allocated() / 2**20
        else:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.mib = max(self.mib, pages * 4096 / 2**20)

    def __exit__(self, *_: object) -> None:
        self.look()
        self._over.set()
        self._thread.join()


def main() -> None:
    name, folder, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    import torch

    torch.set_num_threads(threads)
    path = Path(__file__).parent / "contenders" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    contender = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(contender)
    run = contender.load(folder)
    print(json.dumps({"ready": name}), flush=True)
    for line in sys.stdin:
        workload = json.loads(line)
        try:
            with Peak() as peak:
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                    torch.cuda.reset_peak_memory_stats()
                start = time.perf_counter()
                tokens = run(workload)
                seconds = time.perf_counter() - start
            answer = {"seconds": seconds, "peak_mib": peak.mib, "tokens": tokens}
        except Exception as error:  # the orchestrator reports which contender failed, and goes on
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
