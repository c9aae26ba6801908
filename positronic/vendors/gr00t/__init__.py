"""NVIDIA's GR00T."""
