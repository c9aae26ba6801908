"""Recordings from elsewhere (LeRobot, HDF5, ROS 2 bags) into raw, by a mapping that is shown."""
