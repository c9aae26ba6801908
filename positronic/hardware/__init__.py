"""Robots: one protocol, and what stands behind it."""
