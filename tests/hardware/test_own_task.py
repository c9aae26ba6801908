"""A task of one's own: the page's file and YAML, outside of the package, without an edit elsewhere."""

import re
import sys
from pathlib import Path

import pytest

import positronic
from positronic import keys
from positronic.raw.dataset import open_dataset

PAGE = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text()


@pytest.fixture
def conf_dir(tmp_path, monkeypatch):
    """The page's files, as the page has them. The folder with the YAML; the module is on the path."""
    for name, text in re.findall(r"```(?:yaml|python)\n# (\S+)\n(.*?)```", PAGE, re.DOTALL):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "myconf"
    for name in ("my_tasks.on_mark", "my_tasks"):
        sys.modules.pop(name, None)


def test_the_page_s_task_is_collected_and_played_by_its_expert(conf_dir, tmp_path, capsys):
    """With its own word, instruction and score, in a process of its own too."""
    typed = ["hardware=sim_mark", "hardware.image_size=[32,32]"]
    demo = ["stage=collect", *typed, "num_episodes=1", f"output_dir={tmp_path / 'demo'}"]
    positronic.run(positronic.compose(demo, conf_dir=conf_dir))
    assert open_dataset(tmp_path / "demo")[0].statics[keys.TASK] == "Put the cube on the mark."
    played = ["stage=infer", *typed, "policy=scripted", "driver.num_episodes=1", "driver.save_videos=0"]
    positronic.run(positronic.compose([*played, f"output_dir={tmp_path / 'out'}"], conf_dir=conf_dir))
    assert "put there 1/1" in capsys.readouterr().out
    assert "marking_success.on_mark" in open_dataset(tmp_path / "out")[0].signals
