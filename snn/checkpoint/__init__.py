"""Checkpoints: their format, reading and writing them, and those of the paper's public code."""

from snn.checkpoint.store import VERSION, check_readable, is_resumable, load, load_model, load_to_resume, save
from snn.checkpoint.tensors import check_tensors

__all__ = ["VERSION", "check_readable", "check_tensors", "is_resumable", "load", "load_model", "load_to_resume", "save"]
