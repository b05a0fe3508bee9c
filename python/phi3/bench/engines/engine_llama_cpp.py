"""llama.cpp on a GGUF file, through llama-cpp-python's plain C calls.

float16 keys and values without flash attention, its faster setting on CPUs. Every run has a context
of its own that is just large enough, so that its memory is what it needs.
"""

from __future__ import annotations

import ctypes
import time
from typing import Any

import llama_cpp as llama

BATCH = 512


@llama.llama_log_callback
def no_log(level: int, text: bytes, data: Any) -> None:
    pass


class Engine:
    def __init__(self, settings: dict[str, Any]) -> None:
        self.threads = settings["threads"]
        llama.llama_log_set(no_log, ctypes.c_void_p(0))
        llama.llama_backend_init()
        parameters = llama.llama_model_default_params()
        self.model = llama.llama_model_load_from_file(settings["model"].encode(), parameters)
        if not self.model:
            raise RuntimeError(f"llama.cpp cannot load {settings['model']}")
        self.vocab_size = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self.model))
        self.n_positions = llama.llama_model_n_ctx_train(self.model)

    def facts(self) -> dict[str, Any]:
        return {"version": llama.__version__, "settings": "float16 KV, flash attention off"}

    def peaks(self) -> None:
        return None

    def closing(self) -> dict[str, Any]:
        return {}

    def run(self, prompts: list[list[int]], n_new: int) -> tuple[float, float]:
        context = self._context(len(prompts), len(prompts[0]) + n_new)
        batch = llama.llama_batch_init(max(BATCH, len(prompts)), 0, 1)
        try:
            start = time.perf_counter()
            for row, ids in enumerate(prompts):
                for first in range(0, len(ids), BATCH):
                    part = ids[first : first + BATCH]
                    last = first + len(part) == len(ids)
                    entries = [(token, first + i, row) for i, token in enumerate(part)]
                    self._decode(context, batch, entries, {len(part) - 1} if last else set())
            middle = time.perf_counter()
            rows = range(len(prompts))
            for i in range(n_new):  # any token will do: what comes takes as long
                entries = [
                    (ids[i % len(ids)], len(ids) + i, row) for row, ids in enumerate(prompts)
                ]
                self._decode(context, batch, entries, set(rows))
            return middle - start, time.perf_counter() - middle
        finally:
            llama.llama_batch_free(batch)
            llama.llama_free(context)

    def _context(self, sequences: int, positions: int) -> Any:
        parameters = llama.llama_context_default_params()
        parameters.n_ctx = sequences * (positions + 8)
        parameters.n_seq_max = sequences
        parameters.n_batch = parameters.n_ubatch = BATCH
        parameters.n_threads = parameters.n_threads_batch = self.threads
        parameters.flash_attn_type = 0
        context = llama.llama_init_from_model(self.model, parameters)
        if not context:
            raise RuntimeError("llama.cpp cannot make a context")
        return context

    def _decode(
        self, context: Any, batch: Any, entries: list[tuple[int, int, int]], wanted: set[int]
    ) -> None:
        """Computes (token, position, sequence) triples; logits after the ones that are wanted."""
        batch.n_tokens = len(entries)
        for i, (token, position, sequence) in enumerate(entries):
            batch.token[i] = token
            batch.pos[i] = position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = sequence
            batch.logits[i] = i in wanted
        if llama.llama_decode(context, batch) != 0:
            raise RuntimeError("llama.cpp could not compute")
        llama.llama_synchronize(context)
