"""Checkpoints: their format, reading and writing them, and those of the paper's public code."""

from snn.checkpoint.store import VERSION, load, load_model, load_to_resume, save

__all__ = ["VERSION", "load", "load_model", "load_to_resume", "save"]
