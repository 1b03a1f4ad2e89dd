"""Disk: the index, the blobs, and what keeps them honest (``ports.Store``).

::

    disk       DiskStore: what the other floors use
    entries    drafts: write, sync, and only then claim
    engine     threads, and where foreign errors become ours
    index      rows in diskcache; lookup remembers them, codec writes them, generation
               tells the other workers of changes
    blobs      the files
    room       limits, promises, eviction
    sweep      after a crash
    layout, lock, threads, trouble
"""
