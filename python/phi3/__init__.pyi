"""What `import phi3` offers, for type checkers: __init__.py imports all of it lazily."""

from . import random as random
from ._phi3 import Cache as Cache, Logits as Logits, StreamDecoder as StreamDecoder
from .configuration import AutoConfig as AutoConfig, Phi3Config as Phi3Config
from .engine import Engine as Engine, Request as Request
from .errors import (
    BadFileError as BadFileError,
    BusyError as BusyError,
    DeviceError as DeviceError,
    Error as Error,
    FileAccessError as FileAccessError,
    ForkedError as ForkedError,
    InternalError as InternalError,
    InvalidArgumentError as InvalidArgumentError,
    InvalidIndexError as InvalidIndexError,
    InvalidTypeError as InvalidTypeError,
    MissingPackageError as MissingPackageError,
    ModelNotFoundError as ModelNotFoundError,
    OutOfMemoryError as OutOfMemoryError,
    PipelineError as PipelineError,
    QueueFullError as QueueFullError,
    StoppedError as StoppedError,
    UnknownTaskError as UnknownTaskError,
    UnsupportedError as UnsupportedError,
)
from .generation import GenerationConfig as GenerationConfig
from .modeling import (
    AutoModelForCausalLM as AutoModelForCausalLM,
    Phi3ForCausalLM as Phi3ForCausalLM,
)
from .pipelines import TextGenerationPipeline as TextGenerationPipeline, pipeline as pipeline
from .random import set_seed as set_seed
from .saving import quantize as quantize
from .stream import Stream as Stream
from .streamers import (
    BaseStreamer as BaseStreamer,
    TextIteratorStreamer as TextIteratorStreamer,
    TextStreamer as TextStreamer,
)
from .system import Peaks as Peaks, info as info, measure_peaks as measure_peaks
from .tokenization import (
    AutoTokenizer as AutoTokenizer,
    BatchEncoding as BatchEncoding,
    PreTrainedTokenizer as PreTrainedTokenizer,
)

__version__: str
