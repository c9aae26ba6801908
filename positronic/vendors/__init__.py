"""What is particular to a model vendor, and nothing else. No vendor imports another."""
