#!/usr/bin/env python3
"""Writes the tiny model of the Lua tests: write_model.py DIRECTORY"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))

import make_cases  # noqa: E402

make_cases.write_tiny(Path(sys.argv[1]))
