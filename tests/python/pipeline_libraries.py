"""phi3 and transformers behind one face, so that the same test can ask both.

A ``Library`` has the names that users import (``pipeline``, ``TextStreamer``, ...), a model and
tokenizer of the small Phi-3.5 of ``write_tiny``, and the few things that the two spell differently.
"""

import contextlib
import importlib
import logging
from pathlib import Path

import checkpoints
import numpy as np
from tokenizers_for_tests import write_phi35_tokenizer

TINY = checkpoints.BASE | {
    "vocab_size": 32064,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 131072,
    "original_max_position_embeddings": 4096,
    "rope_scaling": checkpoints.longrope(8),
    "sliding_window": 262144,
    "eos_token_id": [32007, 32001, 32000],
    "pad_token_id": 32000,
}
TINY_SEED = "tiny/17"


def write_tiny(directory: Path, original: int = 4096, maximum: int = 131072) -> Path:
    """A Phi-3.5 of two layers with the whole vocabulary and its tokenizer."""
    lengths = {"original_max_position_embeddings": original, "max_position_embeddings": maximum}
    checkpoints.write_directory(
        directory, TINY | lengths, checkpoints.weights(TINY, TINY_SEED), "float32"
    )
    write_phi35_tokenizer(directory)
    return directory


class Library:
    tensors: str  # return_tensors of the arrays that its models take
    name: str

    def __init__(self, directory: Path) -> None:
        self.module = importlib.import_module(self.name)
        self.model = self.load(directory)
        self.tokenizer = self.module.AutoTokenizer.from_pretrained(str(directory))
        self.vocabulary = self.tokenizer.get_vocab()

    def __getattr__(self, name: str):
        return getattr(self.module, name)

    def pipe(self, **defaults):
        pipeline = self.module.pipeline
        return pipeline("text-generation", model=self.model, tokenizer=self.tokenizer, **defaults)

    def ids(self, *tokens: str) -> list[int]:
        """Ids of tokens by their spelling in the vocabulary."""
        return [self.vocabulary[token] for token in tokens]

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text))

    def generate(self, ids: list[int], **arguments):
        return self.model.generate(self.array([ids]), **arguments)

    def last_logits(self, ids: list[int]) -> np.ndarray:
        """[vocab] after the last id, without a cache."""
        return np.asarray(self.model(self.array([ids])).logits)[0, -1]

    @contextlib.contextmanager
    def log(self):
        """The lines that the library logs, also those that it would only say once."""
        lines = []
        handler = logging.Handler()
        handler.emit = lambda record: lines.append(record.getMessage())
        logger = logging.getLogger(self.name)
        level = logger.level
        self.forget_warnings()
        logger.addHandler(handler)
        logger.setLevel(logging.WARNING)
        try:
            yield lines
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)


class Phi3(Library):
    name, tensors = "phi3", "np"

    def load(self, directory: Path):
        cls = self.module.AutoModelForCausalLM
        return cls.from_pretrained(str(directory), device_map="cpu", compute_dtype="float32")

    def array(self, rows: list[list[int]]) -> np.ndarray:
        return np.array(rows)

    def seed(self, number: int) -> None:
        self.module.random.manual_seed(number)

    def forget_warnings(self) -> None:
        importlib.import_module("phi3.log").warn_once.cache_clear()

    def attention_factor(self, model) -> float:
        return model.config.rope_attention_factor


class Transformers(Library):
    name, tensors = "transformers", "pt"

    def load(self, directory: Path):
        import transformers_oracle

        return transformers_oracle.load(directory)

    def array(self, rows: list[list[int]]):
        import torch

        return torch.tensor(rows)

    def seed(self, number: int) -> None:
        import torch

        torch.manual_seed(number)

    def last_logits(self, ids: list[int]) -> np.ndarray:
        import transformers_oracle

        return transformers_oracle.logits(self.model, ids)[-1]

    def forget_warnings(self) -> None:
        from transformers.utils import logging as transformers_logging

        transformers_logging.warning_once.cache_clear()

    def attention_factor(self, model) -> float:
        return model.model.rotary_emb.attention_scaling
