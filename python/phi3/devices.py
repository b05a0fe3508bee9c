"""The words for devices and their memory: transformers' in, `_phi3.Model`'s out."""

from __future__ import annotations

from typing import Any

from .errors import InvalidArgumentError, InvalidTypeError


class Device(str):
    """A device's name that also answers `type` and `index`, as torch.device does."""

    @property
    def type(self) -> str:
        return self.partition(":")[0]

    @property
    def index(self) -> int | None:
        number = self.partition(":")[2]
        return int(number) if number else None


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def device_word(device: Any) -> str:
    """A device: a name, a CUDA device's number (-1: the CPU), or a torch.device."""
    if _is_int(device):
        return f"cuda:{device}" if device >= 0 else "cpu" if device == -1 else str(device)
    if isinstance(device, str):
        return device
    if hasattr(device, "type") and hasattr(device, "index"):
        return str(device)
    raise InvalidTypeError(
        "device_map must be a str, an int, a torch.device or a dict of them, "
        f"not {type(device).__name__}"
    )


def device_words(device_map: Any) -> str:
    """`device_map`: a device, "auto", or a dict: one for each module of transformers' model."""
    if device_map is None:
        return "auto"
    if not isinstance(device_map, dict):
        return device_word(device_map)
    if not device_map:
        raise InvalidArgumentError("device_map is an empty dict: no module has a place")
    return ",".join(
        f"{_key('device_map', module, str)}={device_word(device)}"
        for module, device in device_map.items()
    )


def memory_words(max_memory: Any) -> str | None:
    """`max_memory`: bytes or "6GiB" for each device, or a dict {0: "6GiB", "cpu": "30GiB"}."""
    if max_memory is None:
        return None
    if not isinstance(max_memory, dict):
        return _size(max_memory)
    return ",".join(
        f"{_key('max_memory', device, (str, int))}={_size(size)}"
        for device, size in max_memory.items()
    )


def _key(argument: str, key: Any, kinds: Any) -> str:
    if not isinstance(key, kinds) or isinstance(key, bool):
        expected = "str" if kinds is str else "str or int"
        raise InvalidTypeError(f"a key of {argument} must be {expected}, not {type(key).__name__}")
    if isinstance(key, str) and ("=" in key or "," in key):
        raise InvalidArgumentError(f"{argument}: {key!r} is not a name")
    return str(key)


def _size(size: Any) -> str:
    if not _is_int(size) and not isinstance(size, str):
        raise InvalidTypeError(
            f"max_memory must be an int, a str or a dict of them, not {type(size).__name__}"
        )
    return str(size)


def place_of(device: str) -> int | str:
    """A device in transformers' hf_device_map: CUDA devices by their numbers."""
    return int(device[5:]) if device.startswith("cuda:") else device
