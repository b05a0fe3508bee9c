"""phi3.measure_peaks: numbers that agree with each other, and Ctrl-C."""

import os
import signal
import threading
import time

import phi3
import pytest
from durations import shortest


def test_peaks_agree_with_each_other():
    peaks = phi3.measure_peaks(n_threads=1)
    assert isinstance(peaks, phi3.Peaks) and peaks.n_threads == 1
    assert 0.1 < peaks.read < 2000
    assert peaks.product_f32 > 0 and peaks.units_f32 > 0
    if phi3.info()["cpu_isa"] != "portable":
        assert peaks.product_f32 < 1.5 * peaks.units_f32
        assert peaks.product_int8 < 1.5 * peaks.units_int8


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

    assert shortest(share, 0.9) < 0.9
