"""stage=import with recordings and dataset in a bucket: whole episodes are uploaded, and the same command goes on."""

import h5py
import numpy as np
import pytest

import positronic
from positronic import keys
from positronic.importing.folder import MAPPING_FILE, RECORD_FILE
from positronic.importing.mapping import ImportMapping, SignalMapping, write_mapping
from positronic.stages.import_ import run


@pytest.fixture
def take(tmp_path):
    """Writes a recording of a UR5e's joints."""

    def make(number):
        (tmp_path / "rec").mkdir(exist_ok=True)
        with h5py.File(tmp_path / "rec" / f"take_{number}.h5", "w") as file:
            file["q"] = np.arange(12)[:, None] / 100 + np.zeros(6) + number

    return make


@pytest.fixture
def config(bucket, tmp_path):
    """The stage's, from the bucket into the bucket, on a machine with a cache of its own."""
    mapping = tmp_path / "mapping.yaml"
    signals = {keys.JOINT_POSITION: SignalMapping(("q",), unit="rad")}
    write_mapping(mapping, ImportMapping("hdf5", "ur5e", signals, fps=10.0))

    def make(machine, *more):
        places = [f"path={bucket.uri('rec')}", f"output_dir={bucket.uri('raw')}", f"storage.endpoint_url={bucket.url}"]
        typed = ["source=hdf5", "embodiment=ur5e", "num_workers=1", f"storage.cache_dir={tmp_path / machine}"]
        return positronic.compose(["stage=import", *places, *typed, *more])

    return lambda machine, *more: make(machine, *more or (f"mapping={mapping}",))


def test_episodes_mapping_and_record_are_in_the_bucket(bucket, take, config, tmp_path):
    """Another machine goes on by the mapping that is there."""
    take(0)
    bucket.put_folder(tmp_path / "rec", "rec")
    result = run(config("a"))
    assert (result.path, result.episodes) == (bucket.uri("raw"), 1)
    assert {f"raw/{MAPPING_FILE}", f"raw/{RECORD_FILE}"} <= set(bucket.objects())
    take(1)
    bucket.put_folder(tmp_path / "rec", "rec")
    again = run(config("b", "on_bad_episode=stop"))
    assert [(each.name, each.episode_id) for each in again.recorded] == [("take_1.h5", 1)]
    dataset = positronic.open_raw(bucket.uri("raw"), storage=bucket.config())
    assert [episode[keys.JOINT_POSITION].values[0, 0] for episode in dataset] == [0, 1]
