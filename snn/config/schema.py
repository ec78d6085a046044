"""The keys that every experiment's config has; the dataset's own keys are in `snn.data`."""

from snn.base.keys import (
    LENGTH,
    NETWORK,
    PLACE,
    REQUIRED,
    Key,
    boolean,
    choice,
    count,
    file_name,
    finite,
    folder_path,
    fraction,
    integer,
    list_of,
    mapping,
    names,
    not_negative,
    number,
    positive,
    size,
    string,
    typed_path,
)  # fmt: skip
from snn.base.names import find_class
from snn.kernels.surrogates import BUILT_IN, Surrogate
from snn.layers.layer import Layer
from snn.layers.sequential import NEURONS, SYNAPSES
from snn.layers.synapses import Synapse


def _class_of(base, built_in, method):
    """Return a check of a class name, built in or the user's own; the class must have `method` if that is given."""

    def check(value):
        found = find_class(value, base, built_in)
        if method and not hasattr(found, method):
            raise ValueError(f"a class with a class method {method}; {value} has none")
        return value

    return check


def _rising(values):
    return all(a < b for a, b in zip(values, values[1:]))


_synapse = _class_of(Synapse, SYNAPSES, "from_config")
_neuron = _class_of(Layer, NEURONS, "from_config")
_surrogate = _class_of(Surrogate, BUILT_IN, None)


def _chunk(value):
    try:
        return value if value == "auto" else size(value)
    except ValueError:
        raise ValueError("a whole number, at least 0, or auto") from None


FILTERS = {"hyperparameters.synapse_type": ["none"]}  # what reads none of their keys
SPREAD = FILTERS | {"hyperparameters.filters.start": ["published"]}
COEFFICIENTS = FILTERS | {"hyperparameters.train_coefficients": [False]}
LR = Key(1.0e-4, positive, "learning rate", unread={"scheduler.scheduler_choice": ["CyclicLR"]})
_below_1 = number("a number from 0 to below 1", lambda v: 0 <= v < 1)
_milestones = list_of(count, "a list of increasing epochs, such as [50, 100]", _rising)

EVERYWHERE = {
    "experiment_name": Key(REQUIRED, file_name, "name of the folders in checkpoint/ and runs/"),
    "pytorch_seed": Key(2, integer(0, 2**63), "seed of all random numbers"),
    "init_from": Key(
        "", typed_path, "checkpoint, or name of weights that ship: layers that fit by name and shape start from it"
    ),
    "freeze": Key([], names, "layers that are not trained, such as 0,1 or [synapses 1, Linear 1]"),
    "device": Key("auto", string, "auto, cpu, cuda or cuda:1", PLACE),
    "precision": Key(
        "float32", choice("float32", "tf32", "bf16"), "of products: tf32 is for CUDA; filters compute in float32"
    ),
    "cuda_graph": Key(
        "auto", choice("auto", "always", "never"),
        "replay training steps on CUDA as a graph; always: also with layers that are not of this project", PLACE,
    ),
    "states": Key(
        "zero", choice("zero", "preserved"), "at a batch's start: zero, or preserved from the previous batch", NETWORK
    ),
    "ties": Key(
        "first", choice("first", "potential"),
        "of classes with as many output spikes: the first is the answer, as published; or that whose output neuron has "
        "the highest potential, summed over the steps, without resets and membrane filter", NETWORK,
    ),
    "hyperparameters": {
        "length": Key(25, count, "number of time steps", NETWORK),
        "chunk": Key(
            0, _chunk, "time steps that training holds in memory: it runs them again in the backward; auto: about the "
            "square root of all; 0: all steps, none again",
        ),
        "truncate": Key(0, size, "gradients go back through up to so many time steps; 0: through all"),
        "batch_size": Key(64, count, "samples per batch"),
        "epoch": Key(100, count, "number of epochs", LENGTH),
        "synapse_type": Key("dual_exp", _synapse, "dual_exp, first_order, none, or your module.Class", NETWORK),
        "neuron": Key("SpikingNeuron", _neuron, "SpikingNeuron, or your module.Class", NETWORK),
        "tau_m": Key(4, positive, "time constant in steps: decay of the synapse, reset of the neuron", NETWORK),
        "tau_s": Key(
            1, positive, "time constant in steps: rise of the synapse (dual_exp)", NETWORK,
            {"hyperparameters.synapse_type": ["first_order", "none"]},
        ),
        "threshold": Key(1.0, finite, "potential above which a neuron spikes", NETWORK),
        "surrogate": Key(
            "Gaussian", _surrogate, "gradient of a spike: Gaussian, FastSigmoid, ATan, or your module.Class", NETWORK
        ),
        "surrogate_arguments": Key({}, mapping, "such as {sigma: 0.5}; empty: the surrogate's defaults", NETWORK),
        "filter_tau_m": Key(4, positive, "decay of the output filter, in steps; classification has none", NETWORK),
        "filter_tau_s": Key(1, positive, "rise of the output filter, in steps", NETWORK),
        "membrane_filter": Key(False, boolean, "low-pass filter the potential too", NETWORK),
        "init": Key(
            "published", choice("published", "kaiming", "diverse"),
            "weights and biases before training: published, as torch draws them; kaiming, with biases half-way to the "
            "threshold: deep networks learn from the first batches on; diverse, the same, and each neuron of the first "
            "layer takes a few inputs alone",
        ),
        "filters": {
            "start": Key(
                "published", choice("published", "spread"),
                "dual_exp and first_order before training: published, all with tau_m and tau_s; spread, with time "
                "constants from 2 steps to the longest", NETWORK, FILTERS,
            ),
            "longest": Key(
                0, not_negative, "spread: longest time constant, in steps; 0: half the length", NETWORK, SPREAD
            ),
            "rotating": Key(
                0.5, fraction, "spread: share of dual_exp filters that ring, by complex poles", NETWORK,
                SPREAD | {"hyperparameters.synapse_type": ["first_order", "none"]},
            ),
        },
        "train_coefficients": Key(True, boolean, "train the synapses' a1, a2, b1", NETWORK, FILTERS),
        "stable_filters": Key(
            False, boolean, "after each step, move a1 and a2 back to where impulse responses decay", NETWORK,
            COEFFICIENTS,
        ),
        "rate_loss": Key(
            0, not_negative, "for fewer spikes: adds to the loss so many times the mean squared firing rate of hidden "
            "neurons, an encoder's too",
        ),
        "train_bias": Key(True, boolean, "train the biases", NETWORK),
        "dropout": Key(0.3, _below_1, "probability, where the network has dropout", NETWORK),
    },
    "optimizer": {
        "optimizer_choice": Key("Adam", choice("Adam", "AdamW", "SGD"), "Adam, AdamW or SGD"),
        "coefficients_lr_factor": Key(
            1, positive, "learning rate of the synapses' coefficients, as a multiple of lr", unread=COEFFICIENTS
        ),
        "decay_coefficients": Key(
            True, boolean, "AdamW: whether weight decay shrinks the synapses' coefficients too, as published, and with "
            "them time constants", unread=COEFFICIENTS | {"optimizer.optimizer_choice": ["Adam", "SGD"]},
        ),
        "clip": Key(
            0, not_negative, "largest norm of the gradient of weights, of coefficients, and of any others with a "
            "learning rate or weight decay of their own; 0: any",
        ),
        "Adam": {"lr": LR},
        "AdamW": {"lr": LR},
        "SGD": {"lr": LR._replace(default=0.1)},
    },
    "scheduler": {
        "scheduler_choice": Key(
            "MultiStepLR", choice("MultiStepLR", "CosineAnnealingWarmRestarts", "CyclicLR", "none"),
            "MultiStepLR, CosineAnnealingWarmRestarts, CyclicLR (stepped every batch) or none",
        ),
        "MultiStepLR": {
            "milestones": Key([50, 100], _milestones, "epochs after which lr is multiplied by gamma", LENGTH),
            "gamma": Key(0.1, positive, "factor"),
        },
        "CosineAnnealingWarmRestarts": {"T_0": Key(20, count, "epochs until the first restart")},
        "CyclicLR": {
            "base_lr": Key(1.0e-5, positive, "lowest learning rate"),
            "max_lr": Key(1.0e-3, positive, "highest learning rate"),
            "step_size_up": Key(2000, count, "batches from the lowest to the highest learning rate"),
        },
    },
    "save_checkpoint": Key(True, boolean, "false: write no checkpoints", PLACE),
    "checkpoint_every": Key(
        0, size, "also save every N batches; 0: only after every epoch", PLACE, {"save_checkpoint": [False]}
    ),
    "checkpoint_base_path": Key("checkpoint", folder_path, "folder of <experiment_name>/best.pt and last.pt", PLACE),
    "test_checkpoint_path": Key(
        "", typed_path, "checkpoint for --test, --inspect and --predict; empty: best.pt of this experiment, or the "
        "weights that ship", PLACE,
    ),
}  # fmt: skip
