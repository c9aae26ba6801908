"""The model of this checkout, by its limits."""

MODEL_TYPE = "Gr00tN1d7"
MAX_ACTION_HORIZON, MAX_STATE_DIM, MAX_ACTION_DIM = 40, 132, 132
