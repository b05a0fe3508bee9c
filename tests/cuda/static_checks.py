#!/usr/bin/env python3
"""What can be known of the CUDA kernels without a GPU: compiles every .cu for every architecture,
prints a table of kernels and fails on

- warnings of nvcc or ptxas,
- register spills, and stacks in local memory of the kernels that decode and prefill run,
- kernels that read weights or the KV cache without 128-bit loads, or too few of them at a time,
- prefill attention without the tensor cores.

Instructions are read from SASS, by nvdisasm (the toolkit's, or PyPI's nvidia-cuda-nvdisasm), or,
where there is none, from PTX, which does not show how many loads stand before their first use.

    static_checks.py [--arch 80 89 90] [--include DIR ...] [--jobs N] [--all] [SOURCE.cu ...]
"""

import argparse
import concurrent.futures
import dataclasses
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
KERNELS = ROOT / "kernels" / "cuda"


# ---- What is asked of a kernel -----------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Rule:
    """What the kernels whose name begins with `prefix` must have; the first that fits holds."""

    prefix: str
    loads: int = 0  # 128-bit loads
    tensor: bool = False  # products of the tensor cores
    in_flight: int = 0  # bytes that a multiprocessor has under way: loads before their first use


RULES = [
    # An H100's memory wants 3.35 TB/s x 0.7 us = 2.3 MB under way, 18 KB for each of 132.
    Rule("multiply_pieces<phi3_q4_0, 1>", loads=8, in_flight=18 << 10),
    Rule("multiply_pieces<phi3_q8_0, 1>", loads=8, in_flight=18 << 10),
    Rule("multiply_pieces<phi3_q4_k, 1>", loads=4, in_flight=18 << 10),
    Rule("multiply_pieces<phi3_q6_k, 1>", loads=4, in_flight=18 << 10),
    Rule("multiply_floats<bfloat16_weights, 1", loads=8, in_flight=18 << 10),
    Rule("multiply_pieces<phi3_q4_0, ", loads=2, in_flight=18 << 10),  # up to 16 rows of x
    Rule("multiply_pieces<phi3_q4_k, ", loads=2, in_flight=18 << 10),
    Rule("multiply_pieces<", loads=2),
    Rule("multiply_floats<", loads=2),
    Rule("multiply_expanded<", loads=1),
    Rule("expand_pieces<", loads=1),
    Rule("attend_rows<wide_rows<", loads=1),
    Rule("attend_tiles<", tensor=True),
]

# Run in each step: nothing of theirs may be in local memory.
HOT = re.compile(
    r"(multiply_|attend_|rope_append|add_rms_norm|swiglu|round_to|expand_|gather_rows|keep_)"
)


# ---- Occupancy -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Multiprocessor:
    warps: int
    blocks: int
    shared: int  # bytes
    registers: int = 65536


# CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
MULTIPROCESSORS = {
    80: Multiprocessor(64, 32, 164 << 10),
    86: Multiprocessor(48, 16, 100 << 10),
    89: Multiprocessor(48, 24, 100 << 10),
    90: Multiprocessor(64, 32, 228 << 10),
}


def resident_warps(arch, threads, registers, shared):
    """Warps that a multiprocessor holds at once. Registers are handed out by 256 to a warp; each
    block takes 1 KB of shared memory for itself."""
    mp = MULTIPROCESSORS[arch]
    warps = -(-threads // 32)
    per_warp = -(-max(registers, 1) * 32 // 256) * 256
    blocks = min(
        mp.blocks,
        mp.warps // warps,
        mp.registers // (per_warp * warps),
        mp.shared // (shared + 1024),
    )
    return blocks * warps


# ---- Compiling and reading -----------------------------------------------------------------------


@dataclasses.dataclass
class Kernel:
    name: str
    arch: int
    stack: int
    spills: int  # bytes stored and loaded
    registers: int
    shared: int
    threads: int = 1024
    loads: int = 0
    ahead: int = 0  # of these, from memory, between two products: issued before the first is used
    tensor: int = 0

    @property
    def warps(self):
        return resident_warps(self.arch, self.threads, self.registers, self.shared)

    @property
    def in_flight(self):
        return self.ahead * 16 * 32 * self.warps


def find_tool(name):
    """A program on PATH, of the toolkit, or of PyPI's packages in this Python."""
    places = [pathlib.Path("/usr/local/cuda/bin")]
    places += sorted((pathlib.Path(sysconfig.get_path("purelib")) / "nvidia").glob("*/bin"))
    return shutil.which(name) or shutil.which(name, path=":".join(map(str, places)))


def include_directories(extra):
    packages = pathlib.Path(sysconfig.get_path("purelib")) / "nvidia" / "cu13" / "include"
    return [ROOT, ROOT / "core", KERNELS, packages, *extra]


def run(command):
    return subprocess.run(command, capture_output=True, text=True)


def demangle(names):
    if shutil.which("c++filt") is None or not names:
        return {n: n for n in names}
    lines = run(["c++filt", *names]).stdout.splitlines()
    # "void multiply_pieces<phi3_q4_0, 1>(phi3_product)" -> "multiply_pieces<phi3_q4_0, 1>"
    plain = []
    for line in lines:
        line = re.sub(r"\(anonymous namespace\)::|_GLOBAL__N__\w+::|^void ", "", line)
        plain.append(re.sub(r"\(((?!\)[0-9]).)*\)$", "", line))
    return dict(zip(names, plain, strict=True))


RESOURCES = re.compile(
    r"Compiling entry function '(?P<name>\S+)'.*?(?P<stack>\d+) bytes stack frame, "
    r"(?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
    r"Used (?P<registers>\d+) registers(?P<rest>[^\n]*)",
    re.S,
)


def parse_resources(log, arch):
    kernels = {}
    for m in RESOURCES.finditer(log):
        shared = re.search(r"(\d+) bytes smem", m["rest"])
        kernels[m["name"]] = Kernel(
            m["name"],
            arch,
            int(m["stack"]),
            int(m["stores"]) + int(m["loads"]),
            int(m["registers"]),
            int(shared[1]) if shared else 0,
        )
    return kernels


def parse_sass(text, kernels):
    parts = re.split(r"^\.text\.(\S+):$", text, flags=re.M)
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        kernel = kernels.get(name)
        if kernel is None:
            continue
        run_of_loads = 0
        for m in re.finditer(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", body):
            op = m[1]
            if op.startswith(("LDG", "LD.")) and ".128" in op:
                kernel.loads += 1
                # Loads of x are kept in the L1 cache; those of weights (.NA) and pages are not.
                run_of_loads += ".NA" in op or ".CONSTANT" not in op
                kernel.ahead = max(kernel.ahead, run_of_loads)
            elif op.startswith(("HMMA", "IMMA")):
                kernel.tensor += 1
                run_of_loads = 0
            elif op.startswith(("IDP", "FFMA")):
                run_of_loads = 0


def parse_ptx(text, kernels, count):
    """Block sizes; with `count`, also what SASS would have told."""
    parts = re.split(r"\.entry (\S+?)\(", text)
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        kernel = kernels.get(name)
        if kernel is None:
            continue
        threads = re.search(r"\.maxntid (\d+)(?:, (\d+))?(?:, (\d+))?", body)
        if threads:
            kernel.threads = int(threads[1]) * int(threads[2] or 1) * int(threads[3] or 1)
        if count:
            wide = r"\bld\.(?!shared|local|param)[\w.:]*(?:v4\.[subf]32|v2\.[subf]64)"
            kernel.loads = len(re.findall(wide, body))
            kernel.tensor = len(re.findall(r"\bw?mma[\w.]*\.sync", body))


def compile_one(source, arch, includes, nvdisasm):
    """The kernels of one source on one architecture, and what is wrong with the compilation."""
    with tempfile.TemporaryDirectory() as directory:
        cubin = pathlib.Path(directory) / "kernels.cubin"
        command = [
            find_tool("nvcc"),
            "-std=c++17",
            "-O3",
            f"-arch=sm_{arch}",
            "-Xptxas",
            "-v",
            "-cubin",
        ]
        command += ["--keep", "--keep-dir", directory, "-o", str(cubin), str(source)]
        command += [f"-I{i}" for i in includes]
        result = run(command)
        log = result.stdout + result.stderr
        if result.returncode != 0:
            return [], [f"{source.name}, sm_{arch}: nvcc fails:\n{log}"]
        failures = [
            f"{source.name}, sm_{arch}: {line}"
            for line in log.splitlines()
            if re.search(r"\bwarning\b", line, re.I)
        ]
        kernels = parse_resources(log, arch)
        for ptx in pathlib.Path(directory).glob("*.ptx"):
            parse_ptx(ptx.read_text(), kernels, count=nvdisasm is None)
        if nvdisasm is not None and kernels:
            sass = run([nvdisasm, "-c", str(cubin)])
            if sass.returncode != 0:
                return [], [f"{source.name}, sm_{arch}: nvdisasm fails: {sass.stderr}"]
            parse_sass(sass.stdout, kernels)
    names = demangle(list(kernels))
    return [dataclasses.replace(k, name=names[k.name]) for k in kernels.values()], failures


# ---- The checks ----------------------------------------------------------------------------------


def check_kernel(kernel, has_sass):
    where = f"{kernel.name} on sm_{kernel.arch}"
    failures = []
    if kernel.spills:
        failures.append(f"{where}: {kernel.spills} bytes of spilled registers")
    if kernel.stack and HOT.match(kernel.name):
        failures.append(f"{where}: {kernel.stack} bytes of local memory")
    for rule in RULES:
        if not kernel.name.startswith(rule.prefix):
            continue
        if kernel.loads < rule.loads:
            failures.append(f"{where}: {kernel.loads} 128-bit loads, {rule.loads} are wanted")
        if rule.tensor and kernel.tensor == 0:
            failures.append(f"{where}: no product of the tensor cores")
        if has_sass and kernel.in_flight < rule.in_flight:
            failures.append(
                f"{where}: {kernel.in_flight} bytes under way in a multiprocessor, "
                f"{rule.in_flight} are wanted"
            )
        break  # the first rule that fits is the kernel's
    return failures


def missing_kernels(kernels):
    """A rule that no kernel falls under would never fail."""
    return [
        f"no kernel is named {rule.prefix}..."
        for rule in RULES
        if not any(k.name.startswith(rule.prefix) for k in kernels)
    ]


def print_table(kernels):
    print(f"{'kernel':58} arch regs stack spill shared 128-bit ahead mma warps under way")
    for k in sorted(kernels, key=lambda k: (k.name, k.arch)):
        most = MULTIPROCESSORS[k.arch].warps
        print(
            f"{k.name[:58]:58} {k.arch:4} {k.registers:4} {k.stack:5} {k.spills:5} {k.shared:6} "
            f"{k.loads:7} {k.ahead:5} {k.tensor:3} {k.warps:2}/{most} {k.in_flight >> 10:6} KB"
        )


def is_shown(kernel):
    """Of the many instances, those that decoding and prefill of the usual formats run."""
    return "<" not in kernel.name or bool(
        re.search(r"q4_0, |q8_0, |q4_k, |q6_k, |bfloat16_weights|attend_|rope_append", kernel.name)
    )


def check(sources, archs, includes, jobs=2, everything=False):
    nvdisasm = find_tool("nvdisasm")
    kernels, failures = [], []
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        work = [(s, a) for s in sources for a in archs]
        for found, wrong in pool.map(lambda w: compile_one(*w, includes, nvdisasm), work):
            kernels += found
            failures += wrong
    for kernel in kernels:
        failures += check_kernel(kernel, nvdisasm is not None)
    print_table([k for k in kernels if everything or is_shown(k)])
    print(f"{len(kernels)} kernels; instructions read from {'SASS' if nvdisasm else 'PTX'}")
    return kernels, failures


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("sources", nargs="*", type=pathlib.Path, metavar="SOURCE.cu")
    parser.add_argument("--arch", nargs="+", type=int, default=[80, 89, 90])
    parser.add_argument("--include", nargs="+", type=pathlib.Path, default=[])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--all", action="store_true", help="print all kernels")
    args = parser.parse_args()
    if find_tool("nvcc") is None:
        parser.error("there is no nvcc")
    sources = args.sources or sorted(KERNELS.glob("*.cu"))
    kernels, failures = check(
        sources, args.arch, include_directories(args.include), args.jobs, args.all
    )
    if not args.sources:
        failures += missing_kernels(kernels)
    for failure in failures:
        print(f"FAIL {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
