"""A SLURM that the tests of this folder bring up themselves."""

import os

import pytest
from cluster.slurm_node import NoSlurmError, slurm_node

NEEDED = "POSITRONIC_NEEDS_SLURM"  # set where a missing SLURM is an error, as in continuous integration
THEIRS = ("SLURM_", "SBATCH_", "SRUN_")  # variables of a job that the tests may run in


@pytest.fixture(scope="session")
def slurm():
    """The SLURM; its commands find it, here and in what is started from here. One for each process of tests."""
    try:
        with slurm_node() as node, pytest.MonkeyPatch.context() as patch:
            for name in [name for name in os.environ if name.startswith(THEIRS)]:
                patch.delenv(name)
            for name, value in node.environment.items():
                patch.setenv(name, value)
            yield node
    except NoSlurmError as error:
        if os.environ.get(NEEDED, "0") not in ("", "0"):
            pytest.fail(f"{NEEDED} is set, but there is no SLURM: {error}")
        pytest.skip(f"no SLURM here: {error}")
