#!/bin/sh
# under_qemu.sh BUILD - runs the kernel tests of a build on CPUs that this machine is not.
#
# qemu stops a program at the first instruction that its CPU lacks, so this proves that no kernel of
# a higher level is reached, and that no code outside the kernels was compiled for one. Takes two
# minutes. Not run here: test_peaks, whose oneDNN makes up its own mind about the CPU, and
# test_backend and test_parallel, which start programs and threads that qemu would leave to the host
# or take minutes for.
set -e
tests=$1/tests

# cpu CPU LEVEL NEXT: CPU has LEVEL and is refused NEXT.
cpu() {
    if PHI3_CPU_ISA=$3 qemu-x86_64 -cpu "$1" "$tests/test_backend" find >"$tests/under_qemu.txt"; then
        echo "$1 accepts $3" && exit 1
    fi
    grep "no more than $2\$" "$tests/under_qemu.txt"
    for test in test_rows test_formats test_linear test_attention; do
        echo "$1, $2: $test"
        PHI3_CPU_ISA=$2 qemu-x86_64 -cpu "$1" "$tests/$test" >"$tests/under_qemu.txt" 2>&1 ||
            { cat "$tests/under_qemu.txt" && exit 1; }
    done
}

cpu Haswell avx2 avx512
cpu Nehalem portable avx2
