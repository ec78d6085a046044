#!/usr/bin/env bash
# Makes every figure of the README's tables anew: two hours of training for each MLP on one core, half an hour
# for the demos. A training that was stopped goes on with its command and --resume.
set -euo pipefail
cd "$(dirname "$0")/.."

# The trainings.
python snn_mlp_1.py --train
python snn_mlp_2.py --train

# What is kept of them, and the table and pictures of learning curves.
for experiment in snn_mlp_1 snn_mlp_2; do
  run=$(ls -d "runs/$experiment"/*/ | tail -n 1)
  kept="results/$experiment/$(basename "$run")"
  mkdir -p "$kept"
  cp "$run"/{config.yaml,metrics.csv,result.json} "$kept"
  python -m snn.checkpoint release "checkpoint/$experiment/best.pt" "weights/$experiment.pt" --half
  python "$experiment.py" --test --checkpoint "weights/$experiment.pt"
done
python -m snn.report results

# The demos.
for script in snn_*.py associative_memory.py; do
  python "$script" --demo
done
