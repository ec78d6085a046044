"""The gate for tensors from a file."""

import torch

from snn.base.errors import UserError


def check_tensors(found, own, path):
    """Check that tensors from the checkpoint `path` can take the place of one's own; both are dicts by name.

    Each must be an ordinary tensor (dense, on the CPU), of its own's shape and data type, with finite values or, like
    an attention's mask, with its own's; one's own on the meta device has none. float16 and bfloat16 may stand for
    float32, since that cast keeps every value. Raises UserError for the first that differs.
    """
    unknown = [name for name in found if name not in own]
    for name in (*unknown, *own):
        if problem := _problem(name, found, own):
            raise UserError(f"checkpoint {path}: {problem}: use the config it was trained with, or another checkpoint")


def same_shapes(found, own):
    """Whether tensors from a checkpoint have the names and shapes of one's own; both are dicts by name."""
    shapes = {name: None if value.is_nested else value.shape for name, value in found.items()}  # nested ones have none
    return shapes == {name: value.shape for name, value in own.items()}


def _problem(name, found, own):
    """Return what is wrong with a tensor; None if nothing is."""
    if name not in found:
        return f"it lacks {name}"
    if name not in own:
        return f"it has {name}, which the network lacks"
    value, like = found[name], own[name]
    if not torch.is_tensor(value) or value.layout != torch.strided or value.is_nested or value.is_meta:
        return f"{name} is no ordinary tensor"
    if value.shape != like.shape:
        return f"it has {name} of shape {list(value.shape)}, not {list(like.shape)}"
    exact = (torch.float32, torch.float16, torch.bfloat16) if like.dtype == torch.float32 else (like.dtype,)
    if value.dtype not in exact:
        return f"it has {name} in {value.dtype}, not {like.dtype}"
    as_made = like.is_meta or value.isfinite().all() or torch.equal(value, like.cpu())
    return None if as_made else f"{name} has values that are not finite"
