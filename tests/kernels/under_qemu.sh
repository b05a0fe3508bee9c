#!/bin/sh
# under_qemu.sh BUILD - runs the kernel tests of a build on CPUs that this machine is not.
#
# qemu stops a program at the first instruction that its CPU lacks, so this proves that no kernel of
# a higher level is reached, and that no code outside the kernels was compiled for one. Takes some
# minutes. Not run here: test_peaks, whose oneDNN makes up its own mind about the CPU, and
# test_backend and test_parallel, which start programs and threads that qemu would leave to the host
# or take minutes for.
set -e
tests=$1/tests
export PHI3_TEST_UNDER_QEMU=1

# cpu CPU LEVEL NEXT: CPU has LEVEL and is refused NEXT.
cpu() {
    output=$tests/under_qemu_$1.txt
    if PHI3_CPU_ISA=$3 qemu-x86_64 -cpu "$1" "$tests/test_backend" find >"$output"; then
        echo "$1 accepts $3" && exit 1
    fi
    grep "no more than $2\$" "$output"
    for test in test_rows test_formats test_linear test_attention; do
        PHI3_CPU_ISA=$2 qemu-x86_64 -cpu "$1" "$tests/$test" >"$output" 2>&1 ||
            { echo "$1, $2: $test" && cat "$output" && exit 1; }
        echo "$1, $2: $test passed"
    done
}

cpu Haswell avx2 avx512 &
cpu Nehalem portable avx2
wait $!
