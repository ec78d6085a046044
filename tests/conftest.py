"""What all tests share."""

import os

import pytest
import torch

if not torch.cuda.is_available():  # Triton's kernels run on the CPU, step by step; said before its first import
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A temporary folder as the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
