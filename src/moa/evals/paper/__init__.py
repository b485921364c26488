"""The analyses of the paper, section 3.3 (arXiv 2406.04692)."""
