"""What an operator should know at a start, in numbers: data that a changed configuration leaves
behind or is about to lose."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from forebay.store.rows import Totals
from forebay.units import describe_size


def notices(
    held: Mapping[str, Totals],
    mounts: Collection[str],
    max_size_bytes: int | None,
    quotas: Mapping[str, int],
    *,
    free_bytes: int,
    min_free_bytes: int,
) -> Iterator[str]:
    """A sentence for each mount that is gone, for each limit below what is stored, and for a disk
    on which less is free than must be.

    ``held`` is what is stored under each mount's name, ``mounts`` are the names in force.
    """
    if free_bytes < min_free_bytes:
        yield (
            f"The disk of the cache has {describe_size(free_bytes)} free, and cache.min_free keeps "
            f"{describe_size(min_free_bytes)}: what is stored makes way, and new files are not "
            "kept where that is not enough. Free some of the disk, or lower cache.min_free."
        )
    for name, totals in sorted(held.items()):
        if totals.objects and name not in mounts:
            yield (
                f"{totals.objects:,} objects ({describe_size(totals.size_bytes)}) belong to the "
                f"mount {name!r}, which is not configured any more. They stay until they are "
                f"evicted; forebay purge --mount {name} removes them now."
            )
        quota = quotas.get(name)
        if quota is not None and totals.size_bytes > quota:
            yield (
                f"The mount {name!r} holds {describe_size(totals.size_bytes)} and may hold "
                f"{describe_size(quota)} now: {describe_size(totals.size_bytes - quota)} of it "
                "are evicted."
            )
    size_bytes = sum(totals.size_bytes for totals in held.values())
    if max_size_bytes is not None and size_bytes > max_size_bytes:
        yield (
            f"The cache holds {describe_size(size_bytes)} and may hold "
            f"{describe_size(max_size_bytes)} now: {describe_size(size_bytes - max_size_bytes)} "
            "are evicted."
        )
