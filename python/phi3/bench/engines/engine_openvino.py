"""OpenVINO GenAI on a directory that `optimum-cli export openvino` has written."""

from __future__ import annotations

import json
import pathlib
import time
from typing import Any

import numpy as np
import openvino
import openvino_genai as genai


class Engine:
    def __init__(self, settings: dict[str, Any]) -> None:
        threads = settings["threads"]
        self.pipe = genai.LLMPipeline(settings["model"], "CPU", INFERENCE_NUM_THREADS=threads)
        config = json.loads((pathlib.Path(settings["model"]) / "config.json").read_text())
        self.vocab_size = config["vocab_size"]
        self.n_positions = config["max_position_embeddings"]

    def facts(self) -> dict[str, Any]:
        version = genai.get_version().split("-")[0]
        return {"version": version, "settings": "its defaults: dynamic int8, u8 KV"}

    def peaks(self) -> None:
        return None

    def closing(self) -> dict[str, Any]:
        return {}

    def run(self, prompts: list[list[int]], n_new: int) -> tuple[float, float]:
        config = genai.GenerationConfig()
        config.max_new_tokens = n_new + 1
        config.ignore_eos = True
        config.do_sample = False
        ids = np.array(prompts, np.int64)
        inputs = genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids)))
        start = time.perf_counter()
        metrics = self.pipe.generate(inputs, config).perf_metrics
        total = time.perf_counter() - start
        prompt = metrics.get_ttft().mean / 1e3
        return prompt, total - prompt
