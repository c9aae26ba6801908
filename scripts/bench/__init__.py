"""The parts of ``bench_convert.py``."""
