"""Episodes that are held out: baked, marked, in no statistics."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

import positronic
from positronic import keys
from positronic.bake.convert import BakeOptions, bake
from positronic.bake.holdout import Holdout, require_two_sides
from positronic.bake.manifest import read_manifest
from positronic.bake.reader import open_baked
from positronic.bake.recompute import stats_json
from positronic.bake.whole import require_whole
from positronic.codecs.build import build
from positronic.errors import ConventionError, PositronicError
from positronic.raw.choice import Choice, choose
from positronic.raw.dataset import open_dataset
from positronic.vendors.registry import companions

VERSIONS = {"commit": None, "dirty": None, "versions": {}}
UIDS = [f"episode {number}" for number in range(2000)]


def seed_for(uids, count, fraction=0.4):
    """A seed that holds out ``count`` of them."""
    return next(seed for seed in range(1000) if len(Holdout(fraction, seed).among(uids)) == count)


@pytest.fixture
def raw(record):
    """Four short episodes of two tasks."""
    for seed in range(4):
        dataset = record(seconds=0.5, seed=seed, task=f"task {seed % 2}")
    return dataset


def uids_of(dataset):
    return [episode.uid for episode in dataset]


def test_an_episode_s_side_follows_from_its_name_and_the_seed():
    """Whatever else is there; the share is that of the fraction, about."""
    holdout = Holdout(0.2, seed=3)
    held_out = {UIDS[k] for k in holdout.among(UIDS)}
    assert 0.15 < len(held_out) / len(UIDS) < 0.25
    assert {uid for uid in UIDS[:500] if holdout.has(uid)} == held_out & set(UIDS[:500])
    assert {UIDS[k] for k in Holdout(0.2, seed=4).among(UIDS)} != held_out


def test_a_larger_fraction_holds_out_the_same_and_more():
    """So that runs with both can be compared."""
    assert set(Holdout(0.1).among(UIDS)) < set(Holdout(0.3).among(UIDS))


@pytest.mark.parametrize("fraction", [0.05, 0.9])
def test_an_empty_side_is_refused_with_a_seed_that_suits(fraction):
    """The seed that is named holds out as many as the fraction says."""
    uids = UIDS[:3]
    seed = next(seed for seed in range(1000) if len(Holdout(fraction, seed).among(uids)) in (0, 3))
    with pytest.raises(PositronicError, match=f"val_seed={seed} holds out (none|all) of these 3") as refusal:
        require_two_sides(Holdout(fraction, seed), uids)
    suits = int(re.search(r"Type val_seed=(\d+)", str(refusal.value))[1])
    require_two_sides(Holdout(fraction, suits), uids)


def test_one_episode_cannot_be_divided():
    """And no seed is named that could."""
    with pytest.raises(PositronicError, match="at least two episodes are needed; found 1"):
        require_two_sides(Holdout(0.5), UIDS[:1])


@pytest.mark.parametrize("dataset_format", [keys.FORMAT_V30, keys.FORMAT_V21])
def test_statistics_are_those_of_a_bake_without_them(raw, recipe, baked, dataset_format):
    """To the last bit, of vectors and of pictures; the manifest says which they are."""
    seed = seed_for(uids_of(raw), 1)
    (held_out,) = Holdout(0.4, seed).among(uids_of(raw))
    others = tuple(k for k in range(4) if k != held_out)
    options = {"dataset_format": dataset_format}
    whole = baked(raw, recipe(), "whole", val_fraction=0.4, val_seed=seed, **options)
    without = baked(choose(raw, Choice(episodes=others)), recipe(), "without", **options)

    ours, theirs = (json.loads((path / keys.STATS_FILE).read_text()) for path in (whole, without))
    for name in (*[column.name for column in recipe().modality.columns], "timestamp", "frame_index"):
        assert ours[name] == theirs[name], name
    assert ours["index"]["count"] == theirs["index"]["count"]
    manifest = read_manifest(whole)
    assert manifest.episodes == 4
    record = {"val_fraction": 0.4, "val_seed": seed, "episodes": [held_out], "uids": [raw[held_out].uid]}
    assert manifest.held_out == record
    assert stats_json(whole, manifest) == (whole / keys.STATS_FILE).read_text()


def test_openpi_s_statistics_leave_them_out(raw, tmp_path):
    """``norm_stats.json`` of the training episodes equals that of a bake of these alone."""
    config = positronic.compose(["stage=convert", "vendor=openpi", "dataset.path=x", "modality.image_size=[32,32]"])
    recipe = build(config.codec, config.modality)
    seed = seed_for(uids_of(raw), 2)
    kept = tuple(k for k in range(4) if k not in Holdout(0.4, seed).among(uids_of(raw)))
    texts = []
    for name, dataset, more in (
        ("whole", raw, {"val_fraction": 0.4, "val_seed": seed}),
        ("part", choose(raw, Choice(episodes=kept)), {}),
    ):
        options = BakeOptions(vendor="openpi", num_workers=1, **more)
        bake(dataset, recipe, tmp_path / name, options, VERSIONS, companions=companions("openpi", recipe, "v3.0"))
        (path,) = (tmp_path / name).rglob("norm_stats.json")
        texts.append(path.read_text())
    assert texts[0] == texts[1]


def test_an_append_leaves_every_episode_on_its_side(raw, recipe, baked, tmp_path):
    """The same dataset, statistics and manifest as one bake of all, up to what the manifest says of the append."""
    seed = next(
        s for s in range(1000) if len(Holdout(0.4, s).among(uids_of(raw)[:2])) == 1 and Holdout(0.4, s).has(raw[3].uid)
    )
    options = {"val_fraction": 0.4, "val_seed": seed}
    whole = baked(raw, recipe("joints_traj"), "whole", **options)
    parts = baked(raw[:2], recipe("joints_traj"), "parts", **options)
    first = read_manifest(parts).held_out["uids"]
    baked(raw, recipe("joints_traj"), "parts", append=True, on_duplicate="skip", **options)
    assert read_manifest(parts).held_out["uids"][:1] == first
    assert read_manifest(parts).held_out == read_manifest(whole).held_out
    assert (parts / keys.STATS_FILE).read_text() == (whole / keys.STATS_FILE).read_text()


def test_an_append_that_holds_out_others_is_refused(raw, recipe, baked):
    """With both sides."""
    seed = seed_for(uids_of(raw)[:2], 1)
    baked(raw[:2], recipe(), val_fraction=0.4, val_seed=seed)
    with pytest.raises(ConventionError, match=f"val_fraction, val_seed: .* has 0.4, {seed}; this bake has none held"):
        baked(raw[2:], recipe(), append=True)


def test_nothing_is_published_when_all_of_a_side_are_bad(record, recipe, baked, tmp_path):
    """A dataset that is left with held-out episodes alone has no statistics."""
    for seed in range(2):
        dataset = record(seconds=0.5, seed=seed)
    val_seed = seed_for(uids_of(dataset), 1)
    (kept,) = (k for k in range(2) if k not in Holdout(0.4, val_seed).among(uids_of(dataset)))
    next(dataset[kept].path.glob("*grip*")).write_bytes(b"")
    with pytest.raises(PositronicError, match="at least two episodes are needed; found 1"):
        baked(open_dataset(dataset.root), recipe(), val_fraction=0.4, val_seed=val_seed, on_bad_episode="skip")
    assert not (tmp_path / "baked").exists()


def test_a_manifest_that_lists_others_is_refused(raw, recipe, baked):
    """Names and seed say which they are; an edited list contradicts them."""
    path = baked(raw, recipe(), val_fraction=0.4, val_seed=seed_for(uids_of(raw), 1))
    manifest = read_manifest(path)
    other = {**manifest.held_out, "episodes": [k for k in range(4) if k not in manifest.held_out_episodes][:1]}
    with pytest.raises(PositronicError, match="are held out, expected"):
        require_whole(path, replace(manifest, held_out=other))


def test_a_bake_of_everything_says_nothing_of_choices(raw, recipe, baked):
    """The manifest is that of a version without them."""
    fields = json.loads((baked(raw, recipe()) / keys.MANIFEST_FILE).read_text())
    assert {"choice", "held_out"}.isdisjoint(fields)


def test_the_choice_is_in_the_manifest(raw, recipe, baked):
    """By the parameters' names and the uids; that of an append beside that of the first bake."""
    path = baked(choose(raw, Choice(tasks=("task 0",))), recipe())
    assert read_manifest(path).choice == {"said": {"tasks": ["task 0"]}, "uids": [raw[0].uid, raw[2].uid], "of": 4}
    baked(choose(raw, Choice(episodes=(3,))), recipe(), append=True)
    assert read_manifest(path).choices == [{"tasks": ["task 0"]}, {"episodes": [3]}]
    assert open_baked(path).uids == (raw[0].uid, raw[2].uid, raw[3].uid)


def test_a_part_of_a_dataset_has_the_rows_and_frames_of_its_episodes(raw, recipe, baked):
    """In the order of the dataset."""
    whole = open_baked(baked(raw, recipe()))
    part = whole.only([1, 3], whole.stats)
    assert len(part) == int((whole.ends - whole.starts)[[1, 3]].sum())
    for place, number in enumerate((1, 3)):
        ours, theirs = (
            each.vectors["action"][each.starts[k] : each.ends[k]] for each, k in ((part, place), (whole, number))
        )
        np.testing.assert_array_equal(ours, theirs)
        assert all(part.videos[name][place] == spans[number] for name, spans in whole.videos.items())
        assert part.tasks[part.task_of[part.starts[place]]] == "task 1"
    assert part.numbers.tolist() == [1, 3]
