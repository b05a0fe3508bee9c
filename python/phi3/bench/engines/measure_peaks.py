"""The peaks of this machine, in a process of its own: settings in, one JSON object out."""

from __future__ import annotations

import dataclasses
import json
import sys

import phi3

settings = json.load(sys.stdin)
peaks = phi3.measure_peaks(n_threads=settings["threads"])
print(json.dumps(dataclasses.asdict(peaks)))
