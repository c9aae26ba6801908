"""The three public datasets, as their configs say, against a server here that is laid out the same way.

The real bucket is elsewhere: only the endpoint is another one here.
"""

from pathlib import Path

import numpy as np
import pytest

import positronic
from positronic import keys
from positronic.raw.dataset import open_dataset, open_from_config

PUBLISHED = Path(__file__).parents[1] / "data" / "raw_v1"
BUCKET = "positronic-public"
PREFIXES = {
    "phail": "datasets/phail/2026-02-01",  # a tree of datasets
    "sim_stack_cubes": "datasets/sim-stack-cubes",
    "sim_pick_place": "datasets/sim-pick-place",
}


@pytest.fixture(scope="module")
def public(other_library, server_url):
    """The bucket, readable by everybody."""
    other_library.create_bucket(Bucket=BUCKET, ACL="public-read")
    for prefix in PREFIXES.values():
        for path in PUBLISHED.rglob("*"):
            if path.is_file():
                key = f"{prefix}/{path.relative_to(PUBLISHED)}"
                other_library.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes(), ACL="public-read")
    return server_url


@pytest.mark.parametrize("name", PREFIXES)
def test_a_public_dataset_is_its_name(public, proxy, name):
    """``dataset=<name>`` is all: found, read without a signature, named, the gripper the right way round."""
    config = positronic.compose(["stage=convert", f"dataset={name}", f"dataset.storage.endpoint_url={proxy.url}"])
    dataset, recorded = open_from_config(config.dataset), open_dataset(PUBLISHED)
    assert dataset.name == name
    assert len(dataset) == len(recorded) == 3
    flipped = name.startswith("sim")
    for signal in (keys.GRIP, keys.TARGET_GRIP):
        values = recorded[0][signal].values
        np.testing.assert_array_equal(dataset[0][signal].values, 1 - values if flipped else values)
    assert not any("Authorization" in request.headers for request in proxy.requests)


@pytest.mark.parametrize("name", PREFIXES)
def test_a_public_dataset_is_where_it_was_published(name):
    """Endpoint, region and folder as published, and anonymous whatever the rest of the run is."""
    config = positronic.compose(["stage=convert", f"dataset={name}", "storage.profile=mine"])
    storage = config.dataset.storage
    assert (storage.endpoint_url, storage.region) == ("https://storage.eu-north1.nebius.cloud", "eu-north1")
    assert (storage.anonymous, storage.profile) == (True, None)
    assert config.dataset.path == f"s3://{BUCKET}/datasets/{name.replace('_', '-')}"
    assert (config.storage.anonymous, config.storage.profile) == (False, "mine")


def test_other_datasets_are_reached_like_everything_else():
    """What is said of storage holds for them, unless they say otherwise."""
    typed = ["stage=convert", "dataset=local", "dataset.path=s3://b/x", "storage.endpoint_url=http://lab:9000"]
    assert positronic.compose(typed).dataset.storage.endpoint_url == "http://lab:9000"
    typed.append("dataset.storage.anonymous=true")
    config = positronic.compose(typed)
    assert (config.dataset.storage.anonymous, config.storage.anonymous) == (True, False)
