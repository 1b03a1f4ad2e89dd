"""Forebay: a caching download accelerator service."""

__version__ = "0.1.0"
