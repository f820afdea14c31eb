"""One contender in its own process: reads workloads as JSON lines, answers with seconds, peak memory and tokens.

Started as `python worker.py CONTENDER MODEL_FOLDER THREADS`; it needs torch and the contender's own library, and nothing of this
project unless the contender is this project.
"""

from __future__ import annotations

import importlib.util
import json
import resource
import sys
import time
from pathlib import Path


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
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            start = time.perf_counter()
            tokens = run(workload)
            seconds = time.perf_counter() - start
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            answer = {"seconds": seconds, "peak_mib": peak, "tokens": tokens}
        except Exception as error:  # the orchestrator reports which contender failed, and goes on
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
