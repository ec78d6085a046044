"""All that a GPU has to show, in one folder to bring back: tests, bandwidth, training steps; then runs of experiments.

    python benchmarks/gpu.py                                      tests and figures, in about 5 minutes
    python benchmarks/gpu.py --train --minutes 8 --data FOLDER    then train for 8 minutes; again: goes on from there
    python benchmarks/gpu.py --train --only snn_conv_1_mnist      no tests and figures, one experiment
    python benchmarks/gpu.py --dry-run                            print the commands and stop

FOLDER holds MNIST/raw, its files unpacked or .gz. `--train` runs each experiment of RUNS at the same time, each in its
own process, stops them before the time is over, and resumes them when it is called again with the same OUT, the folder
of their checkpoints and runs. Tests and figures that went well are not repeated then. Exits with status 1 if anything
failed.
"""

import argparse
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
TESTS = ["test_cuda.py", "test_kernels.py", "test_bias.py", "test_surrogates.py", "test_bfloat16.py"]
RUNS = ["snn_conv_1_mnist", "snn_conv_1_mnist_poisson_input", "sequential_mnist", "sequential_mnist_permuted"]
FIGURES = {"loops": ["--device", "cuda"], "training_step": ["--device", "cuda", "--repeat", "15"]}
RESERVE = 40  # seconds to save, and to test the network of a run that has ended


def measurements(out):
    """Return the commands of the tests and of the figures, by the name of their log."""
    python = [sys.executable, "-u"]
    commands = {"tests": [*python, "-m", "pytest", "-q", "--tb=short", *(str(ROOT / "tests" / name) for name in TESTS)]}
    for name, words in FIGURES.items():
        file = out / (f"{name}.md" if name == "loops" else name)
        commands[name] = [*python, str(ROOT / f"benchmarks/{name}.py"), *words, "--out", str(file)]
    return commands


def training(experiment, out, data, settings):
    """Return the command that starts or resumes an experiment in the folder `out`."""
    words = [word for setting in (f"dataset.root={data}", *settings) for word in ("--set", setting)]
    resume = ["--resume"] if (out / "checkpoint" / experiment / "last.pt").exists() else []
    return [sys.executable, "-u", str(ROOT / f"{experiment}.py"), "--train", *resume, *words]


def run(name, command, out):
    """Run a command with its output in a log, unless it went well before; say how long it took and how it ended."""
    start, done = time.monotonic(), out / f"{name}.done"
    if done.exists():
        print(f"{name}: done before, see {name}.log; delete {done} to repeat it", flush=True)
        return 0
    with open(out / f"{name}.log", "a") as log:
        status = subprocess.run(command, cwd=out, stdout=log, stderr=subprocess.STDOUT).returncode
    if status == 0:
        done.touch()
    last = (out / f"{name}.log").read_text().strip().splitlines()[-1:]
    print(f"{name}: status {status} after {time.monotonic() - start:.0f} s: {''.join(last)}", flush=True)
    return status


def train(commands, out, minutes):
    """Run the experiments at the same time; stop those that are not finished before the time is over.

    Returns the statuses of those that ended by themselves, and of those that did not stop well.
    """
    until = time.monotonic() + 60 * minutes - RESERVE
    running = {}
    for name, command in commands.items():
        log = open(out / f"{name}.log", "a")
        running[name] = subprocess.Popen(command, cwd=out, stdout=log, stderr=subprocess.STDOUT)
    while time.monotonic() < until and any(process.poll() is None for process in running.values()):
        time.sleep(1)
    ended = {name for name, process in running.items() if process.poll() is not None}
    for process in running.values():
        process.send_signal(signal.SIGTERM)
    for name, process in running.items():
        status = process.wait()
        lines = (out / f"{name}.log").read_text().strip().splitlines()
        print(f"{name}: {'finished' if status == 0 else f'status {status}'}: {lines[-1] if lines else ''}", flush=True)
    stopped = 128 + signal.SIGTERM  # the status of a run that has saved
    return [process.returncode for name, process in running.items() if name in ended or process.returncode != stopped]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="gpu", type=Path, help="folder for all results (default gpu)")
    parser.add_argument("--train", action="store_true", help="run the experiments too")
    parser.add_argument(
        "--only", action="append", choices=RUNS, help="with --train: only this run; no tests, no figures"
    )
    parser.add_argument("--minutes", type=float, default=8, help="that training takes in this call (default 8)")
    parser.add_argument("--data", default="data", type=Path, help="folder that holds MNIST/raw (default data)")
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="for the runs: precision=bf16"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the commands and stop")
    args = parser.parse_args()
    out = args.out.resolve()
    if args.only and not args.train:
        parser.error("--only chooses what to train: add --train")
    measured = {} if args.only else measurements(out)
    trained = {name: training(name, out, args.data.resolve(), args.set) for name in args.only or RUNS}
    if args.dry_run:
        for command in (*measured.values(), *(trained.values() if args.train else ())):
            print(*command)
        return
    if not torch.cuda.is_available():
        sys.exit("error: no GPU here: --dry-run prints what would run")
    out.mkdir(parents=True, exist_ok=True)
    statuses = [run(name, command, out) for name, command in measured.items()]
    if args.train:
        statuses += train(trained, out, args.minutes)
    sys.exit(any(statuses))


if __name__ == "__main__":
    main()
