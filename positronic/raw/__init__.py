"""The raw episode dataset: what happened, signal by signal, each with its own clock."""
