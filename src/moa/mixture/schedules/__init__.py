"""Schedules: when an agent may start writing, and which references it gets. One file for each kind."""
