"""transformers with torch on a Hugging Face directory, in the dtype that it is stored in."""

from __future__ import annotations

import time
from typing import Any

import torch
import transformers


class Engine:
    def __init__(self, settings: dict[str, Any]) -> None:
        torch.set_num_threads(settings["threads"])
        transformers.utils.logging.disable_progress_bar()
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            settings["model"], dtype="auto"
        )
        self.vocab_size = self.model.config.vocab_size
        self.n_positions = self.model.config.max_position_embeddings

    def facts(self) -> dict[str, Any]:
        dtype = str(self.model.dtype).rpartition(".")[2]
        versions = f"{transformers.__version__}, torch {torch.__version__}"
        return {"version": versions, "settings": f"{dtype}, sdpa"}

    def peaks(self) -> None:
        return None

    def closing(self) -> dict[str, Any]:
        return {}

    @torch.inference_mode()
    def run(self, prompts: list[list[int]], n_new: int) -> tuple[float, float]:
        tokens = torch.tensor(prompts)
        start = time.perf_counter()
        output = self._forward(tokens, None)
        middle = time.perf_counter()
        for _ in range(n_new):
            tokens = output.logits[:, -1].argmax(-1, keepdim=True)
            output = self._forward(tokens, output.past_key_values)
        return middle - start, time.perf_counter() - middle

    def _forward(self, tokens: Any, cache: Any) -> Any:
        return self.model(tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
