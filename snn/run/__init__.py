"""Runs: one pass, training, what it leaves and how it goes on, and the command line."""
