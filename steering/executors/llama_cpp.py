"""Plans of plain additions by llama.cpp, on a GGUF file as it is: quantised weights, no copy of the model in PyTorch.

1. A plan runs here when it is one of plain additions (`plan.additions`) at the output of blocks from the second on: llama.cpp adds one
   control vector per block to every token that a call reads, so prompt and generated tokens are read by calls of their own.
2. It is greedy, and rows of one plan run together. llama.cpp keeps keys and values in half precision and multiplies quantised weights in
   its own way, so tokens are its own: `agreement` says how far they are the engine's.
3. Nothing can be read back from it: a row says what was asked for, as rows of a remote run do.
4. `all` and `prompt` leave attention sinks out (`model.sinks`). They are not looked for here: `sinks` says how many leading tokens
   they are.
"""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..compile.compilation import refuse_overflow
from ..engine.record import Row
from ..engine.sampling import GenerationSettings
from ..errors import BadInput, NeverFired
from ..model.gguf_header import header_values
from ..model.prompts import check_text
from ..model.sites import Site
from ..plan.additions import Additions, additions, same
from ..plan.plan import Plan
from .llama_library import Batch, as_floats
from .llama_library import library as llama_library
from .nnsight_remote import RemoteRow

BATCH = 2048
"""Tokens that one call reads at most, which is the library's default."""
STEP = 256
"""Columns of a row's context are a multiple of this."""


class LlamaCpp:
    """A GGUF file, opened by llama.cpp."""

    def __init__(self, path: Path | str, *, threads: int | None = None, library: Path | None = None):
        """`threads`: of a step, by default those of PyTorch. Raises BadInput where there is no library, or it cannot read the file."""
        self.path, self.library = Path(path), llama_library(library)
        if not self.path.is_file():
            raise BadInput(f"{self.path} is no file; give a model in llama.cpp's format (.gguf).")
        if threads is not None and threads < 1:
            raise BadInput(f"threads is {threads}; give 1 or more.")
        self.threads = threads or torch.get_num_threads()
        lib = self.library
        header_values(self.path, ("general.architecture",))
        self._model = lib.llama_model_load_from_file(str(self.path).encode(), lib.llama_model_default_params())
        if not self._model:
            raise BadInput(
                f"{self.path} is not read by llama.cpp: it is cut short, or of a kind that this build does not know. Get the file again, "
                f"or a newer llama.cpp. Its own words: {lib.last_words}."
            )
        self._free = weakref.finalize(self, lib.llama_model_free, self._model)
        self._vocabulary = lib.llama_model_get_vocab(self._model)
        self.d_model, self.n_layers = lib.llama_model_n_embd(self._model), lib.llama_model_n_layer(self._model)
        self.context = lib.llama_model_n_ctx_train(self._model)
        self.n_vocab = lib.llama_vocab_n_tokens(self._vocabulary)

    def close(self) -> None:
        """Give the weights' memory back. Nothing can be generated afterwards."""
        self._free()
        self._model = None

    def __enter__(self) -> LlamaCpp:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def encode(self, text: str, special: bool = True) -> tuple[int, ...]:
        """Ids of a text as fed, by the file's own tokenizer; special tokens written out are those tokens, unless `special` is off."""
        check_text(text)
        raw = text.encode()
        held = (ctypes.c_int32 * (len(raw) + 16))()
        count = self.library.llama_tokenize(self._vocabulary, raw, len(raw), held, len(held), True, special)
        if count < 0:
            raise BadInput(f"llama.cpp cannot split this text into tokens: {text[:60]!r}.")
        return tuple(held[:count])

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some ids, special tokens left out."""
        given = (ctypes.c_int32 * max(1, len(ids)))(*ids)
        room = 64 + 32 * len(ids)
        while True:
            held = ctypes.create_string_buffer(room)
            count = self.library.llama_detokenize(self._vocabulary, given, len(ids), held, room, True, False)
            if count >= 0:
                return held.raw[:count].decode("utf-8", "replace")
            room = -count

    def ends(self, token: int) -> bool:
        """Whether a token ends a text."""
        return bool(self.library.llama_vocab_is_eog(self._vocabulary, token))

    def generate(
        self, rows: Sequence[Row], settings: GenerationSettings, *, batch_size: int = 32, sinks: int = 0
    ) -> list[RemoteRow]:
        """Rows in the order given, at most `batch_size` of one plan together. Raises BadInput, before anything is read, for what cannot be
        done here, and NeverFired, with the rows, for a plan all of whose rows ended before anything was to be edited."""
        check_settings(settings)
        if self._model is None:
            raise BadInput(f"{self.path} has been closed; open it again.")
        if sinks < 0:
            raise BadInput(f"sinks is {sinks}; give 0, or the number of leading tokens that are attention sinks.")
        if batch_size < 1:
            raise BadInput(f"batch_size is {batch_size}; at least 1 row must run at a time.")
        groups: dict[Plan, list[int]] = {}
        for index, row in enumerate(rows):
            self._check_row(index, row, settings)
            groups.setdefault(row.plan, []).append(index)
        added = {plan: self._added(plan) if plan else None for plan in groups}
        for plan, members in groups.items():
            self._check_edits(
                added[plan], [(n, len(rows[n].prompt_ids)) for n in members], settings.max_new_tokens, sinks
            )
        done: dict[int, RemoteRow] = {}
        for plan, members in groups.items():
            for start in range(0, len(members), batch_size):
                part = members[start : start + batch_size]
                written = _Run(
                    self, [rows[i].prompt_ids for i in part], settings.max_new_tokens, added[plan], sinks
                ).tokens()
                for index, (tokens, finish) in zip(part, written, strict=True):
                    planned = _planned(added[plan], len(rows[index].prompt_ids), len(tokens), sinks)
                    done[index] = RemoteRow(rows[index].prompt_ids, tuple(tokens), finish, planned)
        for plan, members in groups.items():
            if plan and not any(done[index].planned for index in members):
                raise NeverFired(
                    f"Plan {plan.digest} was not applied: every row that carries it ended before the span began.",
                    [done[index] for index in range(len(rows))],
                )
        return [done[index] for index in range(len(rows))]

    def logits(self, prompt_ids: Sequence[int], plan: Plan | None = None, *, sinks: int = 0) -> np.ndarray:
        """What follows a prompt: `[n_vocab]` float32 logits at its last token. Raises BadInput as `generate`."""
        row = Row(tuple(prompt_ids), plan or Plan())
        self._check_row(0, row, GenerationSettings(1))
        run = _Run(self, [row.prompt_ids], 1, self._added(row.plan) if row.plan else None, sinks)
        with run:
            return run.read()[0]

    def _check_row(self, index: int, row: Row, settings: GenerationSettings) -> None:
        if not row.prompt_ids:
            raise BadInput(f"Row {index} has an empty prompt; give at least one token (the BOS counts).")
        if row.begun or row.bias is not None:
            raise BadInput(
                f"Row {index} goes on from begun tokens or has a bias, which llama.cpp's rows do not; leave them out."
            )
        if odd := [t for t in row.prompt_ids if not 0 <= t < self.n_vocab]:
            raise BadInput(f"Row {index} holds id {odd[0]}; {self.path.name} has ids 0 to {self.n_vocab - 1}.")
        if len(row.prompt_ids) + settings.max_new_tokens > self.context:
            raise BadInput(
                f"Row {index}: {len(row.prompt_ids)} prompt tokens + max_new_tokens {settings.max_new_tokens} exceed the context of "
                f"{self.path.name} ({self.context}). Shorten the prompt or set max_new_tokens lower."
            )

    def _check_edits(self, added: Additions | None, members: Sequence[tuple[int, int]], new: int, sinks: int) -> None:
        """Raises BadInput where nothing would be edited, or a prompt has fewer tokens than are to be left out."""
        for index, prompt in members if added is not None else ():
            if sinks > prompt:
                raise BadInput(
                    f"Row {index} has {prompt} prompt tokens, and sinks is {sinks}: give how many are attention sinks."
                )
            if _planned(added, prompt, new, sinks) == 0:
                raise BadInput(
                    f"Row {index}: nothing would be edited: {prompt} prompt tokens, {sinks} of them left out, and max_new_tokens {new}, "
                    "of which the last is predicted and never read. Give a longer text, or another span."
                )

    def _added(self, plan: Plan) -> Additions:
        for step in plan.interventions:
            refuse_overflow(step)
        found = additions(plan)
        for site, direction in [*found.prompt.items(), *found.generated.items()]:
            if not 0 < site.layer < self.n_layers:
                raise BadInput(
                    f"The plan adds at {site}; llama.cpp can add to the output of blocks 1 to {self.n_layers - 1} of {self.path.name}."
                )
            if len(direction) != self.d_model:
                raise BadInput(
                    f"The vector at {site} has {len(direction)} numbers; {self.path.name} is {self.d_model} wide. It is another model's."
                )
        return found


class _Run:
    """Some rows of one plan, from their prompts on; the context of the library is this run's own."""

    def __init__(
        self, model: LlamaCpp, prompts: Sequence[Sequence[int]], new: int, added: Additions | None, sinks: int
    ):
        self.model, self.prompts, self.new, self.added, self.sinks = model, prompts, new, added, sinks
        self._set: dict[Site, Tensor] = {}

    def __enter__(self) -> _Run:
        model, lib = self.model, self.model.library
        columns = STEP * math.ceil((max(map(len, self.prompts)) + self.new) / STEP)
        wanted = lib.llama_context_default_params()
        wanted.words[0], wanted.words[1] = columns * len(self.prompts), BATCH
        wanted.words[3] = len(self.prompts)
        self.context = lib.llama_init_from_model(model._model, wanted)
        if not self.context:
            raise BadInput(f"llama.cpp has no room for {len(self.prompts)} rows of {columns} tokens: {lib.last_words}.")
        lib.llama_set_n_threads(self.context, model.threads, model.threads)
        self.batch: Batch = lib.llama_batch_init(BATCH, 0, 1)
        return self

    def __exit__(self, *_: object) -> None:
        self.model.library.llama_batch_free(self.batch)
        self.model.library.llama_free(self.context)

    def read(self) -> list[np.ndarray]:
        """The prompts, leading sinks first without anything added; logits at the last token of each."""
        first = min(self.sinks, *map(len, self.prompts)) if self.added is not None and self.added.prompt else 0
        found: dict[int, np.ndarray] = {}
        for begin, end, added in ((0, first, {}), (first, None, self.added.prompt if self.added is not None else {})):
            self._add(added)
            fed = [
                (row, place, token, place == len(prompt) - 1)
                for row, prompt in enumerate(self.prompts)
                for place, token in enumerate(prompt[:end])
                if place >= begin
            ]
            for start in range(0, len(fed), BATCH):
                found.update(self._decode(fed[start : start + BATCH]))
        return [found[row] for row in range(len(self.prompts))]

    def tokens(self) -> list[tuple[list[int], str]]:
        """The greedy text of each row, its end token included, and how it ended."""
        written: list[list[int]] = [[] for _ in self.prompts]
        finish = ["length"] * len(self.prompts)
        with self:
            logits = dict(enumerate(self.read()))
            self._add(self.added.generated if self.added is not None else {})
            while logits:
                running = []
                for row, numbers in logits.items():
                    token = int(numbers.argmax())
                    if not np.isfinite(numbers[token]):  # the largest of numbers one of which is NaN is NaN
                        finish[row] = "nonfinite"
                        continue
                    written[row].append(token)
                    if self.model.ends(token):
                        finish[row] = "eos"
                    elif len(written[row]) < self.new:
                        running.append((row, len(self.prompts[row]) + len(written[row]) - 1, token, True))
                logits = self._decode(running) if running else {}
        return list(zip(written, finish, strict=True))

    def _add(self, added: dict[Site, Tensor]) -> None:
        """From the next call on."""
        if same(added, self._set):
            return
        model, lib = self.model, self.model.library
        rows = torch.zeros(model.n_layers - 1, model.d_model)
        for site, direction in added.items():
            rows[site.layer - 1] = direction
        numbers = np.ascontiguousarray(rows.numpy())
        given = numbers.ctypes.data_as(ctypes.POINTER(ctypes.c_float)) if added else None
        last = model.n_layers - 1 if added else -1
        if lib.control(self.context, given, numbers.size if added else 0, model.d_model, 1 if added else -1, last) != 0:
            raise BadInput(f"llama.cpp did not take the control vector: {lib.last_words}.")
        self._set = added

    def _decode(self, fed: Sequence[tuple[int, int, int, bool]]) -> dict[int, np.ndarray]:
        """One call over (row, position, token, whether logits are wanted); logits by row."""
        batch, lib = self.batch, self.model.library
        batch.n_tokens = len(fed)
        for place, (row, position, token, wanted) in enumerate(fed):
            batch.token[place], batch.pos[place] = token, position
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, row
            batch.logits[place] = wanted
        if (code := lib.llama_decode(self.context, batch)) != 0:
            raise RuntimeError(f"llama.cpp could not read {len(fed)} tokens (code {code}): {lib.last_words}.")
        return {
            row: as_floats(lib.llama_get_logits_ith(self.context, place), self.model.n_vocab).copy()
            for place, (row, _, _, wanted) in enumerate(fed)
            if wanted
        }


def check_settings(settings: GenerationSettings) -> None:
    """Raises BadInput for what is not greedy."""
    if settings.temperature or settings.needs_history or settings.stop_strings or settings.logit_bias:
        raise BadInput(
            "llama.cpp runs plans greedily here: leave temperature, penalties, stop strings and logit bias out."
        )


def _planned(added: Additions | None, prompt: int, written: int, sinks: int) -> int:
    """Edits (site and position) that were asked for, among the positions that were fed."""
    if added is None:
        return 0
    return len(added.prompt) * max(0, prompt - sinks) + len(added.generated) * max(0, written - 1)
