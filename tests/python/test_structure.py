"""The rules of the house: what may include what, how long a file may be, which ops exist."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE_SUFFIXES = {".c", ".h", ".cu", ".cuh", ".py", ".pyi", ".lua"}


def tracked_files() -> list[Path]:
    """The files of the project: those that git knows, or all of them in a source archive."""
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode == 0:
        return [ROOT / name for name in listing.stdout.splitlines() if (ROOT / name).is_file()]
    return [path for path in ROOT.rglob("*") if path.is_file() and ".venv" not in path.parts]


def includes(directory: str) -> list[tuple[str, str]]:
    """(file, included header) of every C source below a top-level directory."""
    found = []
    for path in tracked_files():
        if path.suffix in {".c", ".h"} and path.is_relative_to(ROOT / directory):
            for header in re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', path.read_text(), re.M):
                found.append((str(path.relative_to(ROOT)), header))
    return found


def test_core_knows_no_language_device_or_instruction_set():
    core = includes("core")
    assert core
    foreign = re.compile(r"Python\.h|lua.*\.h|lauxlib|cuda|cublas|dnnl|\w*intrin\.h|arm_neon")
    assert [pair for pair in core if foreign.search(pair[1])] == []


def test_core_sees_kernels_only_through_the_backend_table():
    allowed = {"kernels/backend.h", "kernels/checksum.h", "kernels/formats.h"}
    seen = {header for _, header in includes("core") if header.startswith("kernels/")}
    assert seen and seen <= allowed


def test_bindings_see_only_the_public_header():
    bindings = includes("bindings")
    assert ("phi3.h" in {header for _, header in bindings}) and bindings
    internal = {path.name for path in (ROOT / "core").rglob("*.h")} - {"phi3.h"}
    bad = [p for p in bindings if "kernels/" in p[1] or Path(p[1]).name in internal]
    assert bad == []


# NULL in the tables of backends that compute in the host's memory.
OF_DEVICES = {"memory", "matrix_bytes", "begin", "end", "exec_free", "failure", "measure_peaks"}


def ops_of_the_backend_table() -> list[str]:
    header = (ROOT / "kernels/backend.h").read_text()
    table = re.search(r"typedef struct phi3_backend \{(.*?)\} phi3_backend;", header, re.S)
    ops = re.findall(r"\(\*(\w+)\)", table[1])
    assert len(ops) > 10 and set(ops) >= OF_DEVICES
    return [op for op in ops if op not in OF_DEVICES]


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("op", ops_of_the_backend_table())
def test_every_op_is_in_every_backend(op, backend):
    sources = [p.read_text() for p in (ROOT / "kernels" / backend).rglob("*.c")]
    table = next(s for s in sources if f"const phi3_backend phi3_backend_{backend} = {{" in s)
    assert re.search(rf"\.{op} = \w+", table)


@pytest.mark.parametrize("op", [*ops_of_the_backend_table(), *sorted(OF_DEVICES)])
def test_every_op_is_in_the_cuda_backend(op):
    assert re.search(rf"\bb\.{op} = ", (ROOT / "kernels/cuda/backend.cu").read_text())


def test_no_source_file_is_longer_than_800_lines():
    lengths = {
        str(p.relative_to(ROOT)): len(p.read_text().splitlines())
        for p in tracked_files()
        if p.suffix in SOURCE_SUFFIXES
    }
    assert lengths
    assert {name: n for name, n in lengths.items() if n > 800} == {}


def test_no_tracked_file_is_large():
    sizes = {str(p.relative_to(ROOT)): p.stat().st_size for p in tracked_files()}
    assert {name: size for name, size in sizes.items() if size > 2_000_000} == {}


def test_the_library_never_exits_aborts_or_prints():
    calls = re.compile(r"\b(?:abort|exit|_exit|printf|puts|perror|assert|setlocale|signal)\s*\(")
    bad = []
    for path in tracked_files():
        if path.suffix in {".c", ".h"} and path.relative_to(ROOT).parts[0] in {"core", "kernels"}:
            code = re.sub(
                r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\])*\"", "", path.read_text(), flags=re.S
            )
            bad += [(str(path.relative_to(ROOT)), m[0]) for m in calls.finditer(code)]
    assert bad == []


def test_half_of_the_public_header_is_manual():
    text = (ROOT / "core/phi3.h").read_text()
    comments = "\n".join(re.findall(r"/\*.*?\*/", text, re.S)).count("\n")
    assert comments / text.count("\n") > 0.4
