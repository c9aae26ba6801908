"""LeRobot policies (ACT), trained and run in process."""
