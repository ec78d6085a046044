"""Tasks: what a network is trained for, a module each."""
