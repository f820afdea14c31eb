"""Where the chunks of an evaluation run: in this process, in worker processes, or on a Ray cluster.

1. A chunk is written as one shard by whoever ran it; its bytes do not depend on where that was.
2. A worker reads everything it needs from the run's folder: spec, vectors, controllers. It plans the rows itself and is told chunk numbers.
3. A worker that dies costs the chunk it was on: the chunk goes to another worker, and a new worker takes the dead one's place. A chunk that
   has ended three workers stops the evaluation, with everything finished kept; so does an error of the chunk's own, at once.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

from ..failures import WorkerFailed
from ..store.files import location
from ..store.runs import Run, Store
from .records import chunk_records
from .rows import Parts, Planned, chunks_of, models_of, rules_of

if TYPE_CHECKING:
    from steering.model.models import LoadedModel

    from .spec import EvalSpec

ChunkExecutor = Callable[[Run, "EvalSpec", Parts, Mapping[int, list[Planned]]], Iterator[int]]
"""Runs the chunks given (by number, rows that are missing), stores them, and yields each number once it is stored."""
SMALL = 5_000_000
"""Numbers of a model below which one thread is as fast as several, so that more processes are."""
MANY = 2000
"""Rows for which it is worth to start processes."""
NAMED = ("builtin:", "delta:")
"""How names of models begin that any process finds."""
TRIES = 3
"""Workers that one chunk may end."""


def is_small(model: LoadedModel) -> bool:
    """Whether one thread runs it as fast as several would: on a CPU, a model of few numbers."""
    return model.device.type == "cpu" and sum(value.numel() for value in model.model.parameters()) <= SMALL


def for_rows(rows: int, models: Mapping[str, LoadedModel]) -> ChunkExecutor:
    """A process per core for many rows of small models that a process can load by name; else this one. Rows are the same either way."""
    cores = os.cpu_count() or 1
    alone = rows < MANY or cores < 2 or not all(is_small(model) for model in models.values())
    return in_process if alone or not all(name.startswith(NAMED) for name in models) else processes(cores)


def in_process(run: Run, spec: EvalSpec, parts: Parts, missing: Mapping[int, list[Planned]]) -> Iterator[int]:
    """One chunk after the other, here."""
    with one_thread(*parts.models.values()):
        for number, rows in missing.items():
            run.write(chunk_records(rows, spec, parts))
            yield number


@contextmanager
def one_thread(*models: LoadedModel) -> Iterator[None]:
    """One thread where all of the models are small: their sums do not depend on how many a process has, and no thread waits for one whose
    core something else has taken."""
    import torch

    before = torch.get_num_threads()
    try:
        if models and all(is_small(model) for model in models):
            torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(before)


class Worker:
    """One worker's view of a run: loads it from its folder, runs chunks by number."""

    def __init__(self, folder: str, threads: int | None = None, device: str | None = None):
        import torch

        from ..tasks.task import resolve_task
        from .hybrids import FOLDER as CONTROLLERS
        from .hybrids import stored_controller
        from .loading import load
        from .spec import EvalSpec
        from .stored_vectors import run_vectors

        if threads:
            torch.set_num_threads(threads)
        root, run_id = folder.rsplit("/", 1)
        self.run = Store(root).open(run_id)
        self.spec = EvalSpec.model_validate(self.run.manifest.spec)
        with self.run.local(CONTROLLERS) as place:
            known = [stored_controller(place, arm.controller) for arm in self.spec.arms if arm.controller is not None]
        models = {name: load(name, self.spec.loading, device) for name in models_of(self.spec)}
        rules = rules_of(self.spec, {rule.digest: rule for rule in known})
        self.parts = Parts(resolve_task(self.spec.task), models, run_vectors(self.run), rules)
        self.chunks = list(chunks_of(self.spec, self.parts))

    def chunk(self, number: int, keys: list[str]) -> int:
        """Run the rows of a chunk that are missing, and store them."""
        wanted = set(keys)
        self.run.write(chunk_records([p for p in self.chunks[number] if p.key in wanted], self.spec, self.parts))
        return number


def _serve(folder: str, threads: int | None, channel: Any) -> None:
    """A worker process: chunks in, numbers or tracebacks out, over a channel of its own (one that is shared would be lost with it)."""
    try:
        worker = Worker(folder, threads)
        while (job := channel.recv()) is not None:
            channel.send((worker.chunk(*job), None))
    except (KeyboardInterrupt, EOFError):
        pass
    except BaseException:
        channel.send((None, traceback.format_exc()))


_preloaded = [__name__, "steering.model.models", "transformers.modeling_utils"]


def preload(module: str) -> None:
    """Have worker processes begin with a module imported; of use before the first of them begins."""
    if module not in _preloaded:
        _preloaded.append(module)


def worker_context() -> Any:
    """Where worker processes begin: forked from a process that has imported the model library and done nothing else, so that the import
    is paid for once and no thread or device of this one is shared; where there is no such thing, each begins anew."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_preloaded)
    return context


def processes(workers: int, threads: int | None = 1) -> ChunkExecutor:
    """Worker processes on this machine, each with its own copy of the models and `threads` threads."""

    def execute(run: Run, spec: EvalSpec, parts: Parts, missing: Mapping[int, list[Planned]]) -> Iterator[int]:
        context = worker_context()
        waiting, tries = deque(missing), Counter[int]()
        running: dict[Any, tuple[Any, int]] = {}
        """By channel: the process and the chunk it is on."""

        def start() -> None:
            if waiting:
                mine, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(location(run.folder), threads, theirs), daemon=True)
                process.start()
                theirs.close()  # so that the end of the process ends the channel
                give(mine, process)

        def give(channel: Any, process: Any) -> None:
            number = waiting.popleft() if waiting else None
            if number is not None:
                running[channel] = process, number
            with suppress(OSError):  # a worker that has just died is met when its channel is read
                channel.send(None if number is None else (number, [p.key for p in missing[number]]))

        try:
            for _ in range(min(workers, len(missing))):
                start()
            while running:
                for channel in multiprocessing.connection.wait(list(running)):
                    process, held = running.pop(channel)
                    try:
                        number, trouble = cast(Any, channel).recv()
                    except (EOFError, OSError):
                        process.join()
                        _again(held, tries, waiting, f"its process ended with code {process.exitcode}")
                        start()
                        continue
                    if trouble is not None:
                        raise WorkerFailed(f"Chunk {held} failed in a worker:\n{trouble}")
                    yield number
                    give(channel, process)
        finally:
            for process, _ in running.values():
                process.terminate()
            for process, _ in running.values():
                process.join(timeout=10)

    return execute


def _again(number: int, tries: Counter[int], waiting: deque[int], how: str) -> None:
    """Put a chunk back in the queue. Raises WorkerFailed when it has ended too many workers."""
    tries[number] += 1
    if tries[number] >= TRIES:
        raise WorkerFailed(f"Chunk {number} ended {TRIES} workers ({how}). Everything finished is stored.")
    waiting.append(number)


def on_ray(
    workers: int,
    *,
    cpus: float = 1,
    gpus: float = 0,
    threads: int | None = 1,
    device: str | None = None,
    address: str | None = None,
) -> ChunkExecutor:
    """Actors on a Ray cluster, each asking for `cpus` and `gpus`: the cluster at `address`, the one that this process is connected to, or
    one started here. An actor of several GPUs has them on one node, which is how Ray places what one actor asks for, and lays its models
    over them; `device` says otherwise.

    The store must lie where every node can write. Raises BadInput when Ray is not installed, and for a number of GPUs that Ray has none of.
    """
    from steering.errors import BadInput

    from .loading import SPREAD

    if gpus < 0 or (gpus > 1 and gpus != int(gpus)):
        raise BadInput(f"{gpus:g} GPUs for each actor: Ray gives a share of one GPU, or whole ones.")
    if device is None and gpus:
        device = SPREAD if gpus > 1 else "cuda"

    try:
        import ray
    except ImportError as error:
        raise BadInput("This executor needs Ray: pip install 'steering-workbench[ray]'.") from error

    def execute(run: Run, spec: EvalSpec, parts: Parts, missing: Mapping[int, list[Planned]]) -> Iterator[int]:
        if not ray.is_initialized():
            ray.init(address, log_to_driver=False, include_dashboard=None if address else False)
        actor = ray.remote(num_cpus=cpus, num_gpus=gpus)(Worker)
        waiting, tries = deque(missing), Counter[int]()
        running: dict[Any, tuple[Any, int]] = {}
        """By pending result: the actor and its chunk."""

        def give(worker: Any) -> None:
            if waiting:
                number = waiting.popleft()
                running[worker.chunk.remote(number, [p.key for p in missing[number]])] = worker, number

        def start() -> Any:
            return actor.remote(location(run.folder), threads, device)

        for _ in range(min(workers, len(missing))):
            give(start())
        while running:
            (ready,), _ = ray.wait(list(running), num_returns=1)
            worker, number = running.pop(ready)
            try:
                yield ray.get(ready)
            except ray.exceptions.RayActorError as error:
                _again(number, tries, waiting, str(error).split("\n")[0])
                worker = start()
            except ray.exceptions.RayTaskError as error:
                raise WorkerFailed(f"Chunk {number} failed in a worker:\n{error}") from error
            give(worker)

    return execute
