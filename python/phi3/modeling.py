"""Models: loaded by name, `model.generate(...)`, `model(input_ids).logits`."""

from __future__ import annotations

import os
from typing import Any

from . import _phi3, decoding, saving
from .arrays import from_logits, kind_of, masks_of, to_rows
from .configuration import Phi3Config, read_json
from .devices import Device, device_word, device_words, memory_words, place_of
from .errors import InvalidArgumentError, InvalidTypeError, UnsupportedError
from .generation import GenerationConfig
from .hub import resolve
from .log import warn_once
from .outputs import CausalLMOutput, GenerateOutput
from .progress import ProgressBar

# Arguments of transformers that change nothing here: no code is run, files are always mapped, and
# attention gives the same result by every name.
_WITHOUT_EFFECT = {
    "trust_remote_code",
    "low_cpu_mem_usage",
    "use_safetensors",
    "attn_implementation",
    "_attn_implementation",
}


class Phi3ForCausalLM:
    """A loaded model. Any number of threads may share it."""

    def __init__(self, core: _phi3.Model, path: str) -> None:
        self.core = core
        self.name_or_path = path
        self.config = Phi3Config.of(core, path)
        self.generation_config = _own_generation_config(core, path)

    @property
    def device(self) -> Device:
        """The device of the head, and so of the last layers."""
        return Device(self.core.device)

    @property
    def hf_device_map(self) -> dict[str, int | str]:
        """Where each module of transformers' model is; {"": device} when there is one device."""
        return {module: place_of(device) for module, device in self.core.device_map}

    @property
    def dtype(self) -> str:
        """What most weights are stored in: "bfloat16", "q4_0", ..."""
        return self.core.config["dtype"]

    def num_parameters(self) -> int:
        return self.config.n_parameters

    def can_generate(self) -> bool:
        return True

    def eval(self) -> Phi3ForCausalLM:
        """Returns the model: it is never trained."""
        return self

    def to(self, device: Any = None, dtype: Any = None) -> Phi3ForCausalLM:
        """Returns the model if it is there already: a model stays where it was loaded to."""
        wanted = device_word(device) if device is not None else self.device
        here = wanted == self.device or (":" not in wanted and wanted == self.device.type)
        if not here or dtype is not None:
            raise UnsupportedError(
                f"the model was loaded to {self.device}: choose device_map and compute_dtype in "
                "from_pretrained()"
            )
        return self

    def forward(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        past_key_values: _phi3.Cache | list[_phi3.Cache] | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        return_dict: bool = True,
    ) -> CausalLMOutput | tuple:
        """Logits after every id (after the last `logits_to_keep`), [batch][n_tokens][vocab].

        `past_key_values` holds what came before `input_ids` and is extended. With
        `use_cache=True` and none given, a new one is returned.
        """
        rows = to_rows(input_ids)
        masks = masks_of(rows, attention_mask)
        rows = [_without_left_padding(*pair) for pair in zip(rows, masks, strict=True)]
        caches = past_key_values
        if caches is None and use_cache:
            caches = [_phi3.Cache(self.core) for _ in rows]
            past_key_values = caches[0] if len(rows) == 1 else caches
        elif isinstance(caches, _phi3.Cache):
            caches = [caches]
        logits = self.core.forward(rows, caches=caches, keep=logits_to_keep)
        output = CausalLMOutput(
            logits=from_logits(logits, kind_of(input_ids)), past_key_values=past_key_values
        )
        return output if return_dict else output.to_tuple()

    __call__ = forward

    def generate(self, *args: Any, **kwargs: Any) -> Any | GenerateOutput:
        """See `phi3.decoding.begin`, whose arguments these are, and `phi3.decoding.generate`."""
        return decoding.generate(*self._own_arguments(), *args, **kwargs)

    def begin(self, *args: Any, **kwargs: Any) -> decoding.Begun:
        """What `generate` does first: for those who take the steps themselves."""
        return decoding.begin(*self._own_arguments(), *args, **kwargs)

    def _own_arguments(self) -> tuple:
        return self.core, self.generation_config, self.config.max_position_embeddings

    def save_pretrained(self, path: str | os.PathLike, *, progress: bool | None = None) -> None:
        """Writes the model, quantised as it was loaded, as a GGUF file that llama.cpp loads, too.

        A path that ends in .gguf is the file; any other is a directory, which gets model.gguf and
        copies of the small files beside a checkpoint's weights. `from_pretrained` takes either,
        for the tokenizer as well.
        """
        saving.save(self.core, self.name_or_path, path, progress=progress)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name_or_path!r}, device={str(self.device)!r})"


def _without_left_padding(row: list[int], mask: list[int]) -> list[int]:
    """A row from its first visible id on. Nothing looks ahead, so padding at the right may stay."""
    seen = [bool(value) for value in mask]
    n_left = seen.index(True) if True in seen else 0
    n_seen = sum(seen)
    if not all(seen[n_left : n_left + n_seen]):
        raise UnsupportedError("attention_mask may only hide padding at the ends of a row")
    return row[n_left:]


class AutoModelForCausalLM:
    """`AutoModelForCausalLM.from_pretrained(name)`."""

    def __init__(self) -> None:
        raise InvalidTypeError("use AutoModelForCausalLM.from_pretrained(name)")

    @staticmethod
    def from_pretrained(
        name: str | os.PathLike,
        *,
        device_map: Any = None,
        max_memory: Any = None,
        dtype: Any = None,
        torch_dtype: Any = None,
        compute_dtype: str | None = None,
        kv_cache_dtype: str | None = None,
        quantization: str | None = None,
        n_threads: int = 0,
        revision: str | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        gguf_file: str | None = None,
        packed_dir: str | os.PathLike | None = None,
        progress: bool | None = None,
        **kwargs: Any,
    ) -> Phi3ForCausalLM:
        """Loads a model by name or path (`phi3.hub.resolve` says which names there are).

        device_map: "auto" (None): as much as fits on the CUDA devices, the rest on the CPU. "cpu",
            "reference", "cuda", "cuda:N", N, a torch.device: all of it there, but for what
            `max_memory` leaves to the CPU. A dict: a place for every module of transformers' model,
            as `hf_device_map` gives them, e.g. {"model": 0, "model.embed_tokens": "cpu",
            "lm_head": 0}.
        max_memory: what a device may hold: a number of bytes or "6GiB", "500MB", ..., or a dict
            {0: "6GiB", "cpu": "30GiB"}. None: what is free, but for a margin. "auto" fills the
            devices that are named and no others.
        dtype (or torch_dtype): "auto"; float32 asks for float32 arithmetic throughout.
        compute_dtype: "float32", exact; "mixed", activations rounded to 8 bits or bfloat16 where
            weights are; "auto", float32 for weights of up to 256 MB and mixed above.
        kv_cache_dtype: how keys and values are kept: "float32", "float16", "bfloat16", "int8" (with
            a scale for each head and token); "auto", float32 in the exact mode, else float16.
        quantization: rounds weights while loading: "q4_0", "q4_k_m", "q8_0", ... (a list is in
            `phi3.quantize`); None: as they are stored.
        n_threads: 0 for one per physical core.
        packed_dir: a directory in which to keep the weights as they are packed for this machine, a
            file as large as the model: the next load maps it and takes no time, and processes share
            it. None: $PHI3_CACHE_DIR when that is set; "": none.
        progress: show a bar while loading; None when tqdm is there and stderr is a terminal.
        """
        _refuse_unknown(kwargs)
        path = resolve(
            name,
            revision=revision,
            token=token,
            local_files_only=local_files_only,
            gguf_file=gguf_file,
        )
        with ProgressBar(progress, "Loading model") as bar:
            core = _phi3.Model(
                path,
                device=device_words(device_map),
                max_memory=memory_words(max_memory),
                compute_dtype=compute_dtype or _compute_dtype(dtype, torch_dtype),
                kv_cache_dtype=kv_cache_dtype,
                n_threads=n_threads,
                progress=bar.callback,
                quantization=quantization,
                packed_dir=None if packed_dir is None else os.fspath(packed_dir),
            )
        return Phi3ForCausalLM(core, path)


def _refuse_unknown(kwargs: dict[str, Any]) -> None:
    unknown = [name for name in kwargs if name not in _WITHOUT_EFFECT]
    if unknown:
        raise InvalidTypeError(f"from_pretrained() does not take {', '.join(map(repr, unknown))}")


def _compute_dtype(dtype: Any, torch_dtype: Any) -> str:
    """Half precision is a matter of how weights are stored; only float32 asks for more."""
    wanted = dtype if dtype is not None else torch_dtype
    if torch_dtype is not None and str(torch_dtype) != "auto":
        warn_once("`torch_dtype` is deprecated! Use `dtype` instead!")
    name = str(wanted).rpartition(".")[2]
    if name not in ("None", "auto", "float32", "bfloat16", "float16"):
        raise InvalidArgumentError(
            f"dtype must be 'auto', float32, bfloat16 or float16, not {wanted!r}"
        )
    return "float32" if name == "float32" else "auto"


def _own_generation_config(core: _phi3.Model, path: str) -> GenerationConfig:
    """What the model's files say: generation_config.json, else the ids that they name elsewhere."""
    written = read_json(path, "generation_config.json")
    if not written:
        ids = core.generation_config
        written = {
            "eos_token_id": ids["eos_token_id"] or None,
            "pad_token_id": None if ids["pad_token_id"] < 0 else ids["pad_token_id"],
            "bos_token_id": read_json(path, "config.json").get("bos_token_id"),
        }
    config = GenerationConfig()
    config.fill(written)
    return config
