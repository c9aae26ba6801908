"""A recorded episode that plays as if it were a robot."""
