"""The disk: an index of entries, sparse files with their bytes, and nothing about HTTP meaning."""
