"""Finished runs: read from disk, compared, priced, and shown side by side."""
