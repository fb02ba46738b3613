"""Support of ``benchmarks/peers_cpu.py``: the contestants and their environments."""
