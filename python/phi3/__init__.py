"""phi3: Phi-3.5-mini and its family, with the interface of the transformers pipeline.

    from phi3 import pipeline

    pipe = pipeline("text-generation", model="smollm2-135m")
    print(pipe([{"role": "user", "content": "Hello!"}])[0]["generated_text"][-1]["content"])

Nothing is imported before it is used, so `import phi3` costs a few milliseconds.
"""

from __future__ import annotations

import importlib

__version__ = "0.1.0"

# Where each public name is defined.
_HOMES = {
    "_phi3": ["Cache", "Logits", "StreamDecoder"],
    "configuration": ["AutoConfig", "Phi3Config"],
    "engine": ["Engine", "Request"],
    "errors": [
        "BadFileError",
        "BusyError",
        "DeviceError",
        "Error",
        "FileAccessError",
        "ForkedError",
        "InternalError",
        "StoppedError",
        "InvalidArgumentError",
        "InvalidIndexError",
        "InvalidTypeError",
        "MissingPackageError",
        "ModelNotFoundError",
        "OutOfMemoryError",
        "PipelineError",
        "QueueFullError",
        "UnknownTaskError",
        "UnsupportedError",
    ],
    "generation": ["GenerationConfig"],
    "modeling": ["AutoModelForCausalLM", "Phi3ForCausalLM"],
    "pipelines": ["TextGenerationPipeline", "pipeline"],
    "random": ["set_seed"],
    "saving": ["quantize"],
    "stream": ["Stream"],
    "streamers": ["BaseStreamer", "TextIteratorStreamer", "TextStreamer"],
    "system": ["Peaks", "info", "measure_peaks"],
    "tokenization": ["AutoTokenizer", "BatchEncoding", "PreTrainedTokenizer"],
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

# Without `random`, which would hide Python's own from those who import all.
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> object:
    if name == "random":
        return importlib.import_module(".random", __name__)
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "random"})
