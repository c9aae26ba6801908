"""A Franka Panda in MuJoCo, a table and two cubes."""
