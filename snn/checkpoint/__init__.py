"""Checkpoints: their format, reading and writing them, and those of the paper's public code."""

from snn.checkpoint.store import VERSION, is_resumable, load, load_model, load_to_resume, save
from snn.checkpoint.tensors import check_tensors

__all__ = ["VERSION", "check_tensors", "is_resumable", "load", "load_model", "load_to_resume", "save"]
