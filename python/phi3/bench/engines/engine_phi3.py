"""phi3 itself; the seconds are the library's own, phi3_timings."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from typing import Any

import weightless

import phi3
from phi3 import AutoModelForCausalLM, _phi3

# What the bounds follow from: see phi3.bench.bounds.
SHAPE = (
    *["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"],
    *["num_key_value_heads", "head_dim", "vocab_size", "tie_word_embeddings"],
    *["weight_bytes", "embedding_bytes", "n_parameters", "dtype"],
)

MEASURE_PEAKS = """
import dataclasses, json, sys, phi3
peaks = phi3.measure_peaks(device=sys.argv[1], n_threads=int(sys.argv[2]))
print(json.dumps(dataclasses.asdict(peaks)))
"""

N_STEPS, N_TIMES = 64, 30  # of the measurement of a step without weights


class Engine:
    def __init__(self, settings: dict[str, Any]) -> None:
        self.threads = settings["threads"]
        self.model = AutoModelForCausalLM.from_pretrained(
            settings["model"], n_threads=settings["threads"], **settings["options"]
        )
        self.core = self.model.core
        self.vocab_size = self.core.config["vocab_size"]
        self.n_positions = self.core.config["max_position_embeddings"]

    def facts(self) -> dict[str, Any]:
        config = self.core.config
        return {
            "version": phi3.__version__,
            "settings": f"{self.core.compute_dtype}, {self.core.kv_cache_dtype} KV",
            "device": self.core.device,
            "compute_dtype": self.core.compute_dtype,
            "kv_cache_dtype": self.core.kv_cache_dtype,
            "kv_token_bytes": self.core.kv_token_bytes,
            **{name: config[name] for name in SHAPE},
        }

    def peaks(self) -> dict[str, float]:
        """From a process of its own: what that needs is not the model's memory."""
        command = [sys.executable, "-c", MEASURE_PEAKS, self.core.device, str(self.threads)]
        return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)

    def closing(self) -> dict[str, Any]:
        return {"step_overhead_s": self._step_overhead()}

    def run(self, prompts: list[list[int]], n_new: int) -> tuple[float, float]:
        return generate(self.core, prompts, n_new)

    def _step_overhead(self) -> float:
        """Seconds of a step where there is nothing to multiply: see weightless.py."""
        with tempfile.TemporaryDirectory() as directory:
            weightless.write(directory, self.core.config["num_hidden_layers"])
            model = AutoModelForCausalLM.from_pretrained(
                directory,
                device_map=self.core.device,
                n_threads=self.threads,
                compute_dtype=self.core.compute_dtype,
                kv_cache_dtype=self.core.kv_cache_dtype,
            )
            steps = [generate(model.core, [[1]], N_STEPS)[1] / N_STEPS for _ in range(N_TIMES)]
        return statistics.median(steps)


def generate(model: Any, prompts: list[list[int]], n_new: int) -> tuple[float, float]:
    generation = _phi3.Generation(model, prompts, max_new_tokens=n_new + 1)
    generation.run()
    timings = generation.timings
    return timings["prompt_seconds"], timings["decode_seconds"]
