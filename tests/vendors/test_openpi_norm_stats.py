"""norm_stats.json holds the statistics of the rows that openpi's loader would give, all of them, exactly."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import positronic
from positronic.bake.columns import spooled
from positronic.codecs.build import build
from positronic.errors import PositronicError
from positronic.vendors import registry
from positronic.vendors.openpi import norm_stats

CHUNK = 50
PATH = "assets/pi05_positronic_lowmem/lerobot/norm_stats.json"
STATE_SIZES = {
    "ee": 8,
    "ee_joints": 15,
    "ee_joints_traj": 15,
    "ee_traj": 8,
    "joints_traj": 8,
    "joints_cmd": 8,
    "ee_joints_cmd": 15,
}


def make_recipe(codec, *overrides):
    config = positronic.compose(["stage=convert", "vendor=openpi", f"codec={codec}", *overrides])
    return build(config.codec, config.modality)


def write_columns(root, episodes, format_):
    """The data files of a dataset: an episode is a row group (v3.0, two files) or a file (v2.1)."""
    (root / "data/chunk-000").mkdir(parents=True)
    tables = [
        pa.table(
            {name: pa.FixedSizeListArray.from_arrays(rows.reshape(-1), rows.shape[1]) for name, rows in columns.items()}
            | {"episode_index": np.full(len(columns["action"]), index)}
        )
        for index, columns in enumerate(episodes)
    ]
    if format_ == "v2.1":
        for index, table in enumerate(tables):
            pq.write_table(table, root / f"data/chunk-000/episode_{index:06d}.parquet")
        return
    for number, part in enumerate((tables[:2], tables[2:])):
        with pq.ParquetWriter(root / f"data/chunk-000/file-{number:03d}.parquet", tables[0].schema) as writer:
            for table in part:
                writer.write_table(table)


def random_episodes(state_size, lengths, seed=0):
    random = np.random.default_rng(seed)
    return [
        {
            "observation.state": random.normal(size=(length, state_size)).astype(np.float32),
            "action": random.normal(size=(length, 8)).astype(np.float32),
        }
        for length in lengths
    ]


def naive(episodes, chunk=CHUNK):
    """Frame by frame, step by step, as the transforms are described."""
    states, actions = [], []
    for episode in episodes:
        state, action = episode["observation.state"], episode["action"]
        for frame in range(len(action)):
            states.append(state[frame])
            for step in range(chunk):
                row = action[min(frame + step, len(action) - 1)].copy()
                row[:7] -= state[frame][:7]
                actions.append(row)
    return np.array(states, np.float64), np.array(actions, np.float64)


def assert_statistics(found, rows):
    expected = {"mean": rows.mean(0), "std": rows.std(0)}
    expected |= {"q01": np.quantile(rows, 0.01, axis=0), "q99": np.quantile(rows, 0.99, axis=0)}
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name][: len(values)], values, rtol=1e-12, atol=1e-15, err_msg=name)
        assert found[name][len(values) :] == [0.0] * (32 - len(values))


@pytest.mark.parametrize("format_", ["v3.0", "v2.1"])
@pytest.mark.parametrize("codec", STATE_SIZES)
def test_statistics_equal_numpy_over_every_step_of_every_frame(tmp_path, monkeypatch, codec, format_):
    """Chunks relative to their frame's state, the end repeated, padded to 32; episodes shorter than a chunk too."""
    monkeypatch.setattr(norm_stats, "BLOCK_FRAMES", 16)
    episodes = random_episodes(STATE_SIZES[codec], lengths=(70, 1, 33, 12))
    write_columns(tmp_path, episodes, format_)
    ((name, stats),) = registry.companions("openpi", make_recipe(codec), format_).items()
    assert name == PATH
    content = json.loads(stats.text(tmp_path))["norm_stats"]
    states, actions = naive(episodes)
    assert content.keys() == {"state", "actions"}
    assert_statistics(content["state"], states)
    assert_statistics(content["actions"], actions)


def test_how_the_rows_are_stored_changes_no_byte(tmp_path):
    """The same episodes in either format, and once more."""
    episodes, recipe = random_episodes(8, lengths=(20, 90, 5)), make_recipe("ee")
    texts = []
    for format_ in ("v3.0", "v2.1"):
        write_columns(tmp_path / format_, episodes, format_)
        (stats,) = registry.companions("openpi", recipe, format_).values()
        texts += [stats.text(tmp_path / format_) for _ in range(2)]
    assert len(set(texts)) == 1


def test_the_chunk_is_that_of_the_training_config(tmp_path):
    """Both are typed together, for another config of the upstream checkout."""
    episodes = random_episodes(8, lengths=(30,))
    write_columns(tmp_path, episodes, "v2.1")
    recipe = make_recipe("ee", "modality.config_name=pi0_mine", "modality.action_chunk=10")
    ((name, stats),) = registry.companions("openpi", recipe, "v2.1").items()
    assert name == "assets/pi0_mine/lerobot/norm_stats.json"
    content = json.loads(stats.text(tmp_path))["norm_stats"]
    assert_statistics(content["actions"], naive(episodes, chunk=10)[1])


def test_only_the_steps_of_one_block_are_gathered_at_a_time(tmp_path):
    """However long an episode is."""
    write_columns(tmp_path, random_episodes(8, lengths=(3000,)), "v2.1")
    what = norm_stats.NormStats("observation.state", "action", CHUNK, (True,) * 7 + (False,))
    with spooled(tmp_path, ["observation.state", "action"]) as spool:
        sizes = [len(block) for block in norm_stats.action_rows(spool, what)]
    assert sum(sizes) == 3000 * CHUNK
    assert max(sizes) == norm_stats.BLOCK_FRAMES * CHUNK


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["modality.config_name=null"], "expected modality.config_name and modality.action_chunk, found None and 50"),
        (["modality.action_chunk=null"], "found pi05_positronic_lowmem and None"),
        (["codec.rotation=rot6d_rows"], "7 numbers, found rot6d_rows"),
        (
            ["codec.action=joint_position", "modality.columns.action=[action.joint_position,action.grip]"],
            "begin with the quantities of its action",
        ),
    ],
)
def test_what_upstream_could_not_train_with_is_refused_before_the_bake(overrides, message):
    """One sentence, before any episode is read."""
    with pytest.raises(PositronicError, match=message):
        registry.companions("openpi", make_recipe("ee", *overrides), "v3.0")


def test_other_vendors_have_no_such_file():
    """lerobot's statistics are LeRobot's own."""
    assert registry.companions("lerobot", make_recipe("ee"), "v3.0") == {}


def test_the_codecs_here_are_all_that_can_be_baked():
    """A codec that is added gets its row."""
    files = (Path(__file__).parents[2] / "conf/modality/openpi").glob("[!_]*.yaml")
    assert {path.stem for path in files} - {"from_checkpoint", "droid"} == set(STATE_SIZES)
