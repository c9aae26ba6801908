"""Jobs on a cluster or side by side on this machine: submission, what becomes of each, and the table of a sweep."""
