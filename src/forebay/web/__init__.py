"""The door: HTTP in and out, the admin side, and errors as problem+json."""
