"""Physical Intelligence's openpi."""
