"""docs/own_robot.md, followed line by line in an empty folder."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import positronic
from positronic import keys

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "own_robot.md").read_text()


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """The folder in which the page's files were written and its script and commands were run."""
    folder = tmp_path_factory.mktemp("own")
    for name, text in re.findall(r"```yaml\n# (myconf/\S+)\n(.*?)```", PAGE, re.DOTALL):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def run(*words):
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=250)
        assert done.returncode == 0, done.stderr[-3000:]

    (script,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (folder / "collect.py").write_text(script)
    run(sys.executable, "collect.py")
    for line in re.findall(r"^python run\.py (.*)", PAGE, re.MULTILINE):
        run(sys.executable, str(ROOT / "run.py"), *shlex.split(line))
    return folder


def test_every_part_states_the_robot(followed):
    """Recordings, dataset and rollout are of lab_arm, with its joints by name."""
    recipe = positronic.open_baked(followed / "baked").recipe
    joints = ("base", "shoulder", "elbow", "wrist")
    robots = [positronic.open_raw(followed / name)[0].embodiment for name in ("recordings", "rollouts")]
    for robot in (*robots, recipe.embodiment):
        assert (robot.name, robot.arms[0].joints) == ("lab_arm", joints)


def test_the_own_codec_and_the_policy_s_own_fields_count(followed):
    baked = positronic.open_baked(followed / "baked")
    assert baked.recipe.codec.name == "joints_no_grip"
    assert baked.image_shapes == {"observation.images.top": (48, 64, 3)}
    policy = positronic.load_policy(followed / "trained" / "sort", device="cpu")
    assert policy.meta[keys.META_EMBODIMENT]["name"] == "lab_arm"
    observation = {keys.JOINT_POSITION: [0.0] * 4, "image.top": [[[0, 0, 0]] * 64] * 48, keys.TASK: "Sort the parts."}
    chunk = policy.infer(observation)
    assert chunk[0].command.positions.shape == (4,)
    assert len(positronic.open_raw(followed / "rollouts")) == 1
