"""The ``forebay`` command."""
