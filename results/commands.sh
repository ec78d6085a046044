#!/usr/bin/env bash
# Remakes every figure of the README's table: two to four hours for each MLP and sequential MNIST on one core, half an hour for N-MNIST
# and for each association, a quarter of an hour for the demos. Resume a run that was stopped with its command and --resume.
set -euo pipefail
cd "$(dirname "$0")/.."

# The runs. Those that are kept ran with OMP_NUM_THREADS=1 (our recipe of the MNIST CNN: 2): rounding, and with it the last
# digits, depends on the processor and the number of threads. N-MNIST: data/N-MNIST held only Train/*/00001.bin to 01000.bin
# and Test/*/00001.bin to 00050.bin.
python snn_mlp_1.py --train
python snn_mlp_1_non_zero.py --train
python snn_mlp_1_poisson_input.py --train
python snn_mlp_2.py --train
python snn_mlp_2_poisson_input.py --train
python snn_conv_1_mnist.py --train --set precision=bf16 --set hyperparameters.epoch=74  # on a GPU; its published length is 100
python snn_conv_1_mnist.py --train --config_file configs/recipes/mnist_cnn_12.yaml \
  --set experiment_name=snn_conv_1_mnist_12  # our recipe, 3.2 hours on two CPU cores
python snn_conv_1_nmnist.py --train --set dataset.dev_size=100 --set dataset.shift=2 --set optimizer.Adam.lr=1.0e-3 \
  --set hyperparameters.batch_size=16 --set hyperparameters.epoch=11 --set scheduler.MultiStepLR.milestones='[8, 10]' \
  --set scheduler.MultiStepLR.gamma=0.3
python associative_memory.py --train
python associative_memory.py --train --set experiment_name=associative_memory_published \
  --set dataset.patterns=associative_target.npy  # the patterns of the paper's public code
python time_series.py --train
python ecg.py --train
python sequential_mnist.py --train
python sequential_mnist_permuted.py --train

# What is kept of them, and the table and pictures of learning curves.
keep() {
  run=$(dirname "$(ls "runs/$1"/*/result.json | tail -n 1)")
  kept="results/$1/$(basename "$run")"
  rm -rf "results/$1"
  mkdir -p "$kept"
  cp "$run"/{config.yaml,metrics.csv,result.json} "$kept"
}
for experiment in snn_mlp_1 snn_mlp_1_non_zero snn_mlp_1_poisson_input snn_mlp_2 snn_mlp_2_poisson_input \
  snn_conv_1_mnist snn_conv_1_nmnist associative_memory time_series \
  ecg sequential_mnist sequential_mnist_permuted; do
  keep "$experiment"
  half=$([[ $experiment = @(time_series|ecg|sequential_mnist*) ]] || echo --half)  # samples would fall otherwise
  python -m snn.checkpoint release "checkpoint/$experiment/best.pt" "weights/$experiment.pt" $half
  python "$experiment.py" --test --checkpoint "weights/$experiment.pt"
done
keep associative_memory_published
keep snn_conv_1_mnist_12
python -m snn.report results

# Two more seeds of the pixels, for the README's means.
for experiment in sequential_mnist sequential_mnist_permuted; do
  python $experiment.py --train --seeds 2 --set pytorch_seed=3 --set experiment_name=${experiment}_more
done

# Time series datasets with one config, five seeds, beside other classifiers: half an hour. data/time_series held the eight
# datasets, data/watch.npz the recordings of people. The other classifiers: pip install sktime tslearn
rm -f results/tables/archive.csv results/tables/people.csv
python benchmarks/archive.py
python benchmarks/people.py data/watch.npz --labels exercise --groups subject

# Heartbeats: variants of our filters and other neurons, five seeds, two hours on two cores; where training moved the poles.
rm -f results/tables/temporal_ecg.csv
python benchmarks/temporal.py ecg
python ecg.py --inspect --checkpoint weights/ecg.pt
cp "$(ls -d runs/ecg/* | tail -n 1)/poles.png" results/tables/ecg_poles.png

# Pixels in a random order: a quarter of the images with five seeds, eight minutes to half an hour each; all of them with three,
# half an hour each; where training moved the poles.
rm -f results/tables/temporal_permuted.csv results/tables/temporal_permuted_whole.csv
python benchmarks/temporal.py permuted
python benchmarks/temporal.py permuted_whole
python sequential_mnist_permuted.py --inspect --checkpoint weights/sequential_mnist_permuted.pt
cp "$(ls -d runs/sequential_mnist_permuted/* | tail -n 1)/poles.png" results/tables/permuted_poles.png

# Filters that drift, three seeds: five to eight hours on one core.
rm -f results/tables/drift.csv
python benchmarks/drift.py

# N-MNIST over five splits (half an hour), the first steps of deep networks (an hour), and the direction of time (five minutes).
# data/N-MNIST as above, unpacked.
rm -f results/tables/nmnist_splits.csv results/tables/first_steps.csv results/tables/direction.csv
python benchmarks/nmnist_splits.py
python benchmarks/first_steps.py
python benchmarks/direction.py

# The demos.
for script in snn_*.py sequential_mnist*.py associative_memory.py time_series.py ecg.py; do
  python "$script" --demo
done
