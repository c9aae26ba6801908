"""Codecs: what a policy sees of the raw signals, and what its outputs mean as robot commands."""
