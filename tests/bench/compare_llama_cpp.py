"""phi3 and llama.cpp in turn on the same GGUF file: tokens/s, medians, ratios.

    pip install . && pip install --no-binary llama-cpp-python llama-cpp-python
    python tests/bench/compare_llama_cpp.py MODEL.gguf [--rounds 5] [--threads 2]

Each engine is started anew for every round, so that neither profits from what the other has left.
"""

import argparse
import json
import statistics
import subprocess
import sys

PROMPT, NEW = 128, 64
MEASURES = ("prefill_tokens_per_s", "decode_tokens_per_s")

LLAMA_CPP = """
import json, sys, time
import llama_cpp

path, threads, n_prompt, n_new = sys.argv[1], *map(int, sys.argv[2:])
model = llama_cpp.Llama(path, n_ctx=n_prompt + n_new + 8, n_batch=512, n_threads=threads,
                        n_threads_batch=threads, verbose=False)
ids = [(7919 * i + 1) % model.n_vocab() for i in range(n_prompt + n_new)]
best = [0.0, 0.0]
for _ in range(3):
    model.reset()
    start = time.perf_counter()
    model.eval(ids[:n_prompt])
    middle = time.perf_counter()
    for token in ids[n_prompt:]:
        model.eval([token])
    end = time.perf_counter()
    best = [max(best[0], n_prompt / (middle - start)), max(best[1], n_new / (end - middle))]
print(json.dumps(dict(zip(("prefill_tokens_per_s", "decode_tokens_per_s"), best))))
"""


def measure(command: list[str]) -> dict[str, float]:
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(run.stdout[run.stdout.index("{") :])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compute-dtype", default="auto")
    options = parser.parse_args()
    threads, sizes = str(options.threads), [str(PROMPT), str(NEW)]
    commands = {
        "phi3": [
            *[sys.executable, "-m", "phi3", "bench", options.model, "--json"],
            *["--threads", threads, "--prompt-tokens", sizes[0], "--new-tokens", sizes[1]],
            *["--compute-dtype", options.compute_dtype],
        ],
        "llama.cpp": [sys.executable, "-c", LLAMA_CPP, options.model, threads, *sizes],
    }
    found: dict[str, list[dict[str, float]]] = {engine: [] for engine in commands}
    for _ in range(options.rounds):
        for engine, command in commands.items():
            found[engine].append(measure(command))
    for measured in MEASURES:
        medians = [statistics.median(run[measured] for run in found[e]) for e in commands]
        ratio = medians[0] / medians[1]
        print(f"{measured}: phi3 {medians[0]:.1f}, llama.cpp {medians[1]:.1f}, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
