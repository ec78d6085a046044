"""Running an experiment: the command line, the passes, the training."""
