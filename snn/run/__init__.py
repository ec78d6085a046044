"""Runs: one pass, training, what a run saves and how it resumes, and the command line."""
