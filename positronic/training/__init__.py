"""One training loop for every vendor: data, checkpoints, exact resume."""
