"""Datasets: files read, encoded and split; recordings simulated."""
