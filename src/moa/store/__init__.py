"""What outlives a run: turns, what each key has spent, and whole runs, in one SQLite file."""
