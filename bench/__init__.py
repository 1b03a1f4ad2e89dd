"""The benchmark behind ``./scripts/bench``: Forebay beside its peers, in one run, as ratios.

``servers`` and ``peers`` start what is measured, ``processes`` tells what it costs, ``load`` makes
the load in a process of its own; ``workloads``, ``cold`` and ``hardships`` say what is measured;
``report`` shows it, ``document`` and ``plot`` write it down, and ``profiling`` looks into Forebay.
"""
