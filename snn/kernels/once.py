"""Gradients that are written by hand, and have none themselves."""

from functools import wraps

import torch


def once_differentiable(backward):
    """Return a Function's backward that raises RuntimeError where its gradients are to have gradients (create_graph).

    Torch's `once_differentiable` raises only where the second backward comes by: gradients of given inputs, as of
    `torch.autograd.grad`, go around it, and silently lack what lies behind it.
    """

    @wraps(backward)
    def checked(ctx, *grads):
        if torch.is_grad_enabled():
            raise RuntimeError(
                "filters and neurons can't be differentiated twice: leave out create_graph=True, and with it hessians, "
                "gradient penalties and gradients through a training step"
            )
        return backward(ctx, *grads)

    return checked
