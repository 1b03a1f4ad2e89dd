"""How long tests wait for what must come."""

PATIENCE_SECONDS = 60.0
"""Ends a test whose program hangs, and no other: a machine may stand still for a third of it."""
