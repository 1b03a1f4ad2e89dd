"""What moves bytes: the tee, the transfer that fills an entry, and the readers of it."""
