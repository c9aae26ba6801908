"""The vendor group: who trains the policy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from positronic.training.config import RANDOM, OptimizerConfig
from positronic.utils.fields import above, one_of, path, some

DAY_SEC = 86_400


@dataclass
class VendorConfig:
    """Who trains the policy.

    name: of the vendor's file
    backend: native runs in this process, upstream in the vendor's own code
    repo: the checkout of the vendor's own code; null is a folder beside this one
    python: the interpreter of its environment; null is .venv/bin/python in it
    ready_timeout_sec: how long its server may take to load
    infer_timeout_sec: how long its server may take to answer
    upstream_url: host:port of a server of its own that runs already; null starts one
    config_name: openpi's own config of a checkpoint that it published; null is modality.config_name
    base: pretrained weights to start from: a folder, s3://..., a name on the Hugging Face hub, or random; openpi's own
        code takes gs://... too
    toy: build the same code at a size for trying things out, which learns nothing of use
    optimizer: how its policy is trained unless betas=, weight_decay=, ... say otherwise; null takes that of optimizers
    optimizers: the same for each vendor.policy.type
    mask_padding: steps of a chunk past its episode's end do not count in the loss; openpi counts them
    policy: the vendor library's own fields, checked by its own config class when the stage starts
    """

    name: str = MISSING
    backend: str = one_of("native", "upstream", default="native")
    repo: str | None = path(None, backend="upstream")
    python: str | None = path(None, backend="upstream")
    ready_timeout_sec: float = above(0, DAY_SEC, default=300.0, backend="upstream")
    infer_timeout_sec: float = above(0, DAY_SEC, default=15.0, backend="upstream")
    upstream_url: str | None = some(None, "<host>:<port>", backend="upstream")
    config_name: str | None = some(None, "the name of a config of openpi's", backend="upstream")
    base: str = RANDOM
    toy: bool = False
    optimizer: OptimizerConfig | None = None
    optimizers: dict[str, OptimizerConfig] = field(default_factory=dict)
    mask_padding: bool = False
    policy: dict[str, Any] = field(default_factory=dict)
