"""What is asked of both transformers and phi3, by the live tests and by the goldens' script."""

from checkpoints import FAMILIES, prompt

LOGIT_LENGTHS = (1, 2, 17, 63, 64, 65, 130, 200)
GREEDY_LENGTHS = (1, 40, 130)  # 40 crosses the LongRoPE border at 64 while generating
GREEDY_COUNT = 64

# Checkpoints whose logits the goldens keep, and at which positions and ids.
GOLDEN_LENGTHS = (1, 64, 65, 200)
GOLDEN_IDS = slice(5, 512, 61)
GOLDEN_CHECKPOINTS = [
    (family, dtype) for family in FAMILIES for dtype in ("float32", "bfloat16", "float16")
]


def golden_positions(length: int) -> list[int]:
    return sorted({0, length // 2, length - 1})


# name -> (prompts, seed, generation arguments), all on the float32 "phi3.5-mini" checkpoint.
FREE = {"eos_token_id": None, "max_new_tokens": 24}
SAMPLE = {"do_sample": True, "top_k": 0, **FREE}
GENERATE = {
    "temperature": ([prompt(9)], 0, {**SAMPLE, "temperature": 1.7}),
    "temperature 0.7, top_k 50": ([prompt(9)], 1, {**SAMPLE, "temperature": 0.7, "top_k": 50}),
    "the default top_k": ([prompt(9)], 1, {**FREE, "do_sample": True, "temperature": 3.0}),
    "top_k 5": ([prompt(9)], 2, {**SAMPLE, "temperature": 4.0, "top_k": 5}),
    "top_p 0.8": ([prompt(9)], 3, {**SAMPLE, "temperature": 2.0, "top_p": 0.8}),
    "top_p 0 keeps one": ([prompt(9)], 3, {**SAMPLE, "temperature": 2.0, "top_p": 0.0}),
    "min_p 0.02": ([prompt(9)], 4, {**SAMPLE, "temperature": 3.0, "min_p": 0.02}),
    "repetition_penalty 1.5": ([prompt(30)], 5, {**SAMPLE, "repetition_penalty": 1.5}),
    "repetition_penalty below 1": ([prompt(30)], 5, {**SAMPLE, "repetition_penalty": 0.5}),
    "all at once": (
        [prompt(50)],
        6,
        {
            **SAMPLE,
            "temperature": 2.5,
            "top_k": 40,
            "top_p": 0.9,
            "min_p": 0.01,
            "repetition_penalty": 1.2,
        },
    ),
    "a big seed": ([prompt(9)], 2**40 + 7, {**SAMPLE, "temperature": 2.0}),
    "two prompts": ([prompt(9), prompt(14)], 7, {**SAMPLE, "temperature": 2.0}),
    "two draws": ([prompt(9)], 8, {**SAMPLE, "temperature": 2.0, "num_return_sequences": 2}),
    "two prompts, two draws, penalty": (
        [prompt(9), prompt(5)],
        9,
        {**SAMPLE, "temperature": 2.0, "num_return_sequences": 2, "repetition_penalty": 1.3},
    ),
    "a row that ends early draws on": (
        [prompt(9), prompt(14)],
        11,
        {**SAMPLE, "temperature": 2.0, "eos_token_id": list(range(100, 130)), "pad_token_id": 2},
    ),
    "greedy, penalty": ([prompt(40)], None, {**FREE, "repetition_penalty": 1.4}),
    "greedy, eos list": (
        [prompt(40)],
        None,
        {"max_new_tokens": 40, "eos_token_id": list(range(64))},
    ),
    "greedy, eos and pad": (
        [prompt(40), prompt(9)],
        None,
        {"max_new_tokens": 40, "eos_token_id": list(range(40)), "pad_token_id": 3},
    ),
    "greedy, min_new_tokens": (
        [prompt(40)],
        None,
        {"max_new_tokens": 40, "eos_token_id": list(range(200)), "min_new_tokens": 12},
    ),
    "greedy, min_length": (
        [prompt(40)],
        None,
        {"max_new_tokens": 40, "eos_token_id": list(range(200)), "min_length": 49},
    ),
    "greedy, max_length": ([prompt(40)], None, {"max_length": 47, "eos_token_id": None}),
    "sampling, min_new_tokens": (
        [prompt(9)],
        12,
        {**SAMPLE, "temperature": 2.0, "eos_token_id": list(range(200)), "min_new_tokens": 6},
    ),
    "the model's own defaults": ([prompt(9)], None, {}),
}

# SmolLM2's greedy texts, in float32 mode. No choice in them is closer than 0.03 % of the logits'
# range.
SMOLLM2_COUNT = 40
SMOLLM2_TEXTS = (
    "The capital of France is",
    "Once upon a time, in a village by the sea,",
    "def fibonacci(n):",
)
SMOLLM2_CHATS = (
    ["What is the capital of France?"],
    ["Name a fruit that is yellow."],
    [
        "What is the capital of France?",
        "The capital of France is Paris.",
        "And what river flows through it?",
    ],
)
PROSE_TOKENS = 1000


def chat(turns: list[str]) -> list[dict[str, str]]:
    """Messages: the user speaks first, then they take turns."""
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": content} for i, content in enumerate(turns)]
