#!/usr/bin/env python3
"""static_checks.py finds each fault of planted.cu, and nothing in a kernel that has none."""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import static_checks

PLANTED = pathlib.Path(__file__).with_name("planted.cu")


class Planted(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        includes = static_checks.include_directories([])
        cls.kernels, cls.failures = static_checks.check([PLANTED], [90], includes, everything=True)

    def found(self, *words):
        return [f for f in self.failures if all(word in f for word in words)]

    def test_spills(self):
        self.assertTrue(self.found("swiglu", "spilled registers"))

    def test_local_memory(self):
        self.assertTrue(self.found("rope_append", "local memory"))

    def test_narrow_loads(self):
        self.assertTrue(self.found("multiply_pieces<1>", "0 128-bit loads"))

    def test_no_tensor_cores(self):
        self.assertTrue(self.found("attend_tiles<96>", "tensor cores"))

    def test_warnings(self):
        self.assertTrue(self.found("planted.cu", "warning", "never_used"))

    def test_a_kernel_that_is_gone(self):
        missing = static_checks.missing_kernels(self.kernels)
        self.assertIn("no kernel is named attend_rows<wide_rows<...", missing)
        self.assertNotIn("no kernel is named attend_tiles<...", missing)

    def test_a_sound_kernel_passes(self):
        sound = static_checks.Kernel(
            "multiply_pieces<phi3_q4_0, 1>", 90, 0, 0, 80, 0, threads=128, loads=12, ahead=8
        )
        self.assertEqual(static_checks.check_kernel(sound, has_sass=True), [])


class Occupancy(unittest.TestCase):
    """Against figures of NVIDIA's occupancy calculator."""

    def test_resident_warps(self):
        self.assertEqual(static_checks.resident_warps(90, 128, 32, 0), 64)
        self.assertEqual(static_checks.resident_warps(80, 128, 128, 0), 16)
        self.assertEqual(static_checks.resident_warps(89, 256, 40, 0), 48)
        self.assertEqual(static_checks.resident_warps(80, 128, 32, 48 << 10), 12)


if __name__ == "__main__":
    unittest.main()
