"""A Franka Panda in MuJoCo at a table, and the tasks that it is given there."""
