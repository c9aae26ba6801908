"""What vendors share of LeRobot's policies: configs, columns into batches, strict loading, training and prediction."""
