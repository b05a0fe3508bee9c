#!/usr/bin/env bash
# What only a machine with an NVIDIA GPU can tell, in one command and under 10 minutes: builds the CUDA
# backend, runs the kernels' and the model's tests on it, the small ones under compute-sanitizer, and
# prints how fast the shape of Phi-3.5-mini is, as a Markdown table.
#
#   tests/cuda/run_on_gpu.sh
#       Needs a driver, nvcc 13, cuBLAS (the toolkit's, or: pip install nvidia-cublas==13.0.*), what a
#       build of phi3 needs, cmocka, and 12 GB of disk. PYTHON chooses the Python, BUILD the directory.
#   BUILD=DIRECTORY tests/cuda/run_on_gpu.sh --dry-run
#       Tries the script itself: the emulator of a build with PHI3_CUDA=emulated, a tiny model, and the
#       phi3 of PYTHON. Its figures mean nothing.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-python3}
build=${BUILD:-$root/build/gpu}
dry=false
if [ "${1:-}" = --dry-run ]; then dry=true; fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=""
# One suite under one tool, in the sizes that the emulator gets: it says what it found and goes on.
sanitize() {
    local status=0
    EMULATOR_ORDER=forward PHI3_TEST_BACKEND=cuda timeout 25 compute-sanitizer --tool "$1" \
        --error-exitcode 1 "$build/tests/test_$2" || status=$?
    case $status in
    0) ;;
    124) echo "$1 of test_$2: no end after 25 s, no error until then" ;;
    *) failures+=" $1:$2" ;;
    esac
}
step() { printf '\n=== %s (%(%H:%M:%S)T) ===\n' "$1" -1; }

if ! $dry; then
    step "build"
    nvidia-smi --query-gpu=name,driver_version,compute_cap,memory.total --format=csv
    capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1 | tr -d .)
    cmake -S "$root" -B "$build" -DPHI3_CUDA=on -DPHI3_CUDA_ARCHITECTURES="$capability" \
        -DPHI3_PYTHON=ON -DPHI3_LUA=OFF -DPHI3_PYTHON_EXECUTABLE="$(command -v "$python")"
    cmake --build "$build" --parallel
    mkdir -p "$build/site"
    cp -r "$root/python/phi3" "$build/site/"
    cmake --install "$build" --component python --prefix "$build/site/phi3"
    export PYTHONPATH=$build/site
fi
export PHI3_CUDA_LIBRARY=$build/kernels/cuda/libphi3_cuda.so
"$python" -m phi3 info

step "tests on the device"
suites="rows top_k linear attention"
if $dry; then suites="rows top_k"; fi
for suite in $suites; do
    PHI3_TEST_BACKEND=cuda "$build/tests/test_$suite"
done
if ! $dry; then
    for suite in generate cache timings; do
        PHI3_TEST_DEVICE=cuda "$build/tests/test_$suite"
    done
fi

step "compute-sanitizer"
if $dry || ! command -v compute-sanitizer >/dev/null; then
    echo "compute-sanitizer is not used here: memory, races and barriers of the device go unchecked"
else
    for tool in memcheck racecheck synccheck; do
        for suite in rows top_k linear attention; do
            sanitize "$tool" "$suite"
        done
    done
fi

step "speed"
types="q4_0 q4_k bf16" tiny="" shape=(--prefill "512,2048" --depths "0,4096" --batch 8)
if $dry; then types=q4_0 tiny=--tiny shape=(--prefill 8 --depths 0 --new-tokens 4); fi
for type in $types; do
    "$python" "$root/tests/cuda/random_model.py" "$work/$type.gguf" --type "$type" $tiny
    if ! $dry; then
        nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits --loop-ms=200 \
            >"$work/$type.memory" &
        watcher=$!
    fi
    "$python" -m phi3 bench "$work/$type.gguf" --device cuda "${shape[@]}" --repeat 1 --json \
        >"$work/$type.json"
    if ! $dry; then kill "$watcher"; fi
    rm "$work/$type.gguf"
done
"$python" "$root/tests/cuda/gpu_table.py" "$work"/*.json
if [ -n "$failures" ]; then
    echo "compute-sanitizer found errors:$failures" >&2
    exit 1
fi
