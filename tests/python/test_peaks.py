"""phi3.measure_peaks: numbers that agree with each other, and Ctrl-C."""

import os
import signal
import threading
import time

import phi3
import pytest
from limits import least


def test_peaks_agree_with_each_other():
    def most_of_the_units() -> float:
        """That a product reaches: other work may spoil one of the numbers, but not every time."""
        peaks = phi3.measure_peaks(n_threads=1)
        assert isinstance(peaks, phi3.Peaks) and peaks.n_threads == 1
        assert 0.1 < peaks.read < 2000
        assert peaks.product_f32 > 0 and peaks.units_f32 > 0
        if phi3.info()["cpu_isa"] == "portable":
            return 0  # there oneDNN may use more than our kernels
        return max(
            peaks.product_f32 / peaks.units_f32,
            peaks.product_int8 / peaks.units_int8,
        )

    assert least(most_of_the_units, 1.5, tries=5) < 1.5


def test_ctrl_c_stops_measuring():
    def share() -> float:
        """Of the time that measuring takes, when it is stopped after a fifth."""
        start = time.perf_counter()
        phi3.measure_peaks()
        whole = time.perf_counter() - start
        timer = threading.Timer(0.2 * whole, lambda: os.kill(os.getpid(), signal.SIGINT))
        timer.start()
        start = time.perf_counter()
        with pytest.raises(KeyboardInterrupt):
            phi3.measure_peaks()
        return (time.perf_counter() - start) / whole

    assert least(share, 0.9) < 0.9
