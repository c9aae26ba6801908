"""What a robot is: arms, joints, grippers, cameras, by name."""
