"""Disk: the index, the blobs, and what keeps them honest (``ports.Store``).

::

    disk       DiskStore: what the other floors use
    entries    drafts: write, sync, and only then claim
    engine     threads, and where foreign errors become ours
    index      rows in diskcache's table (table, schema); annexes beside them; lookup remembers
               them, codec writes them, generation tells the other workers of changes
    blobs      the files
    sums       checksums of blocks; checks compares, scrub goes through everything
    selected   purges, pins and listings, page by page
    room       limits, quotas, promises; ranking says who goes first
    progress   drafts as other workers see them
    sweep      after a crash; notices after a change of configuration
    layout, lasting, lock, threads, trouble, upkeep
"""
