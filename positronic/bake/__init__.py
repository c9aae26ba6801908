"""Raw episodes to a LeRobot dataset: sampling, encoding, statistics, manifest."""
