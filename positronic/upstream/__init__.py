"""The vendors' own code in their own environments: checkouts, child processes, and what their output says."""
