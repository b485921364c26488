"""A model is called for a benchmark, and each reply is on disk before anything is made of it."""
