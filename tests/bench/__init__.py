"""The arithmetic and the parsers of ``./scripts/bench``; it measures by itself."""
