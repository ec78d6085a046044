"""Gradients that are written by hand, and have none themselves."""

from functools import wraps

import torch
from torch.autograd import function


def once_differentiable(backward):
    """Return a Function's backward as torch's `once_differentiable` does, but so that second derivatives always raise.

    Torch's lets them be 0 where no arriving gradient needs one, as after a sum.
    """
    once = function.once_differentiable(backward)

    @wraps(backward)
    def checked(ctx, *grads):
        if torch.is_grad_enabled():
            first = next((n for n, grad in enumerate(grads) if grad is not None), None)
            grads = [grad.detach().requires_grad_() if n == first else grad for n, grad in enumerate(grads)]
        return once(ctx, *grads)

    return checked
