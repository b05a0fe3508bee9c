"""Exceptions: all are `phi3.Error`, and the builtin that transformers raises in the same place."""

from ._phi3 import (
    BadFileError,
    BusyError,
    DeviceError,
    Error,
    FileAccessError,
    ForkedError,
    InternalError,
    InvalidArgumentError,
    InvalidTypeError,
    ModelNotFoundError,
    OutOfMemoryError,
    QueueFullError,
    StoppedError,
    UnsupportedError,
)


class InvalidIndexError(Error, IndexError):
    """There is nothing at that place: the first of no prompts, say."""


class PipelineError(Error, RuntimeError):
    """The parts of a pipeline do not fit together."""


class UnknownTaskError(Error, KeyError):
    """A task that no pipeline is for."""

    __str__ = Exception.__str__  # KeyError would quote the message


class MissingPackageError(Error, ImportError):
    """An optional package is needed for this and is not installed."""


__all__ = [
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
]
