"""The benchmark behind ``./scripts/bench``: Forebay beside nginx, in one run, as ratios.

``servers`` starts what is measured, ``load`` makes the load in a process of its own,
``workloads`` says what is measured, ``report`` shows it.
"""
