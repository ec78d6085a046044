"""Convert and release checkpoints.

python -m snn.checkpoint convert IN OUT            convert between our format and the paper's public code, either way
python -m snn.checkpoint release IN OUT [--half]   write the weights alone, small, with their SHA-256 next to them
"""

import argparse
import os
import sys
from pathlib import Path

from snn import config, experiments
from snn.base.errors import UserError, as_mistake
from snn.base.files import check_replaces, user_path, write_text
from snn.base.output import lasting
from snn.checkpoint import published
from snn.checkpoint.store import load, save, sha256
from snn.checkpoint.trained import network_of, trained_network
from snn.layers.synapses import coefficient_names

UNKNOWN = -1  # epoch


def convert(source, target, experiment=None):
    """Convert a checkpoint of the public code to our format, or the other way round.

    Args:
        experiment: that a checkpoint of the public code belongs to; None takes it from the file's name.
    Raises UserError if the experiment is unknown, and whatever `load` and `load_model` raise.
    """
    checkpoint = load(source)
    names = sorted(experiments.NAMES, key=len, reverse=True)
    is_published = published.is_published(checkpoint)
    of = Path(source).name if is_published else checkpoint["config"]["experiment_name"]
    experiment = experiment or next((name for name in names if name in of), None)
    if experiment not in names:
        raise UserError(f"{source}: its experiment is unknown; name it with --experiment: {', '.join(sorted(names))}")
    settings = config.resolve(experiments.config_file(experiment)) if is_published else checkpoint["config"]
    net = trained_network(checkpoint, settings, source, network_of(experiment, source))
    if is_published:
        epoch = checkpoint.get("epoch")
        epoch = epoch if isinstance(epoch, int) else UNKNOWN
        result = {"config": net.config, "epoch": epoch, "model": net.state_dict()}
    else:
        result = published.from_checkpoint(checkpoint, net)
    save(target, result)
    if os.path.exists(f"{target}.sha256"):  # of what was there
        _write_sum(target)


def release(source, target, half=False):
    """Write only the weights of our checkpoint `source` to `target`, and their SHA-256 to `target`.sha256.

    The config is the experiment's own, with the network's keys as in `source`: it contains none of your folders.

    Args:
        half: weights and biases in float16; that rounds to three digits, so test it. Coefficients stay in float32:
            near 1, rounding moves a filter's poles a lot.
    Raises UserError if `source` is not a checkpoint of ours with an experiment's name (a demo has another one), or has
    weights above float16's largest with `half`.
    """
    checkpoint = load(source)
    if published.is_published(checkpoint):
        raise UserError(f"checkpoint {source} is of the public code: convert it first")
    name = checkpoint["config"]["experiment_name"]
    own = experiments.config_file(name)
    if name not in experiments.NAMES:
        raise UserError(f"checkpoint {source} is of {name}, which has no configs/{own.name}: release an experiment's")
    settings = config.resolve(own)
    if "measured" in checkpoint["config"]:  # of that dataset
        settings["dataset"]["name"] = checkpoint["config"]["dataset"]["name"]
    settings = config.follow_checkpoint(settings, checkpoint["config"], warn=lambda _: None)
    net = trained_network(checkpoint, settings, source, network_of(name, source))
    model = dict(net.state_dict())
    for parameter in sorted(dict(net.named_parameters()).keys() - coefficient_names(net)) if half else ():
        model[parameter] = model[parameter].half()
        if not model[parameter].isfinite().all():
            raise UserError(f"checkpoint {source}: {parameter} has values above float16's largest: leave out --half")
    save(target, {"config": net.config, "epoch": checkpoint["epoch"], "model": model})
    _write_sum(target)


def _write_sum(path):
    write_text(f"{path}.sha256", f"{sha256(path)}  {Path(path).name}\n")


@lasting()
def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m snn.checkpoint", description="Convert and release checkpoints.")
    commands = parser.add_subparsers(required=True)
    for function in (convert, release):
        text = function.__doc__.splitlines()[0].replace("`", "")
        command = commands.add_parser(function.__name__, help=text, description=text)
        command.set_defaults(function=function)
        command.add_argument("source", metavar="IN", type=user_path)
        command.add_argument("target", metavar="OUT", type=user_path)
    commands.choices["convert"].add_argument(
        "--experiment", help="experiment of a public-code checkpoint, if its file name does not contain it"
    )
    commands.choices["release"].add_argument(
        "--half", action="store_true", help="weights in float16, coefficients unchanged"
    )
    try:
        args = vars(parser.parse_args(argv))
        replaced = check_replaces(args["target"], [args["source"]])
        args.pop("function")(**args)
    except (UserError, PermissionError) as error:
        print(f"error: {as_mistake(error)}", file=sys.stderr)
        sys.exit(2)
    print(f"{args['target']} written{', in place of what was there' if replaced else ''}")


if __name__ == "__main__":
    main()
