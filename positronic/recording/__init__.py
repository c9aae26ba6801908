"""A writer of episodes for people's own collection scripts, safe in a control loop."""
