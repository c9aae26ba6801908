"""The robot-side client: numpy, msgpack and websockets only."""
