"""Rollouts as an evaluation reports them, without a robot."""

import numpy as np

from positronic import keys
from positronic.hardware.sim.tasks.stack import SCORES
from positronic.rollout.report import Rollouts
from positronic.rollout.results import EpisodeResult


def episode(root, index, outcome, **values):
    path = root / f"000000000000/{index:012d}"
    success_sec = 1.5 if outcome == "success" else None
    series = {SCORES.score: [(0.0, 0.0), (1.0, 0.5), (2.0, 1.0 if success_sec else 0.25)]}
    fields = {"duration_sec": 2.0, "success_sec": success_sec, "latencies_ms": [10.0, 30.0], "metrics": series}
    fields["smoothness"] = -8.5 - index
    return EpisodeResult(index, 1000 + index, outcome, str(path), "Stack.", **{**fields, **values})


def rollouts(root, *outcomes, **values):
    results = [episode(root, index, outcome) for index, outcome in enumerate(outcomes)]
    fields = {
        "planned": len(results),
        "robot": "sim",
        "task": "Stack.",
        "config": {},
        "provenance": {},
        "wall_sec": 3.0,
        "scores": SCORES,
    }
    return Rollouts(root, results, policy={keys.META_TYPE: "act", "size": np.float32(2)}, **{**fields, **values})
