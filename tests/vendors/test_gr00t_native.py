"""GR00T N1.7 at toy size: the same code as at full size, with a tokenizer of the recording's own words."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import positronic
from positronic import geometry
from positronic.bake import statistics
from positronic.bake.frame_source import CachedFrames, in_memory
from positronic.bake.reader import BakedDataset, open_baked
from positronic.codecs.build import build
from positronic.embodiments.embodiment import build_embodiment
from positronic.errors import ConventionError, PositronicError
from positronic.policies.steps import batch_of
from positronic.stages import convert
from positronic.stages import train as stage
from positronic.training.agreement import agreed_recipe
from positronic.training.batches import BatchMaker, SampleOrder
from positronic.training.checkpoints import list_checkpoints, write_info
from positronic.training.device import autocast, to_device
from positronic.training.state import seed_everything
from positronic.training.trainable import PolicySpec
from positronic.vendors.gr00t import native, network, rows
from positronic.vendors.gr00t.parts import state_columns

ROOT = Path(__file__).parents[2]
SIDE = "modality.image_size=[32,32]"
STEPS = 16
BACKBONE = "backbone"

torch.set_num_threads(1)  # these tests share their cores


def composed(codec, *typed):
    return positronic.compose(["stage=train", "vendor=gr00t", f"codec={codec}", SIDE, *typed])


@pytest.fixture(scope="module")
def baked(tmp_path_factory):
    """The published recording, three episodes of 60 frames."""
    folder = tmp_path_factory.mktemp("baked") / "ee_rot6d_joints"
    where = [f"dataset.path={ROOT / 'tests/data/raw_v1'}", f"output_dir={folder}", "num_workers=1"]
    convert.run(positronic.compose(["stage=convert", "vendor=gr00t", "codec=ee_rot6d_joints", SIDE, *where]))
    return folder


@pytest.fixture(scope="module")
def dataset(baked):
    return open_baked(baked)


def trained(dataset, codec, *typed, **spec):
    """A policy whose weights are random; ``spec``: what is another than that of a toy."""
    config = composed(codec, *typed)
    recipe = agreed_recipe(config.codec, config.modality, dataset.manifest, "it", "")
    values = {"base": None, "toy": True, "dataset": dataset, **spec}
    seed_everything(0)
    return native.make_trainable(PolicySpec(recipe, dataset.stats, config.vendor.policy, "cpu", **values)), recipe


@pytest.fixture(scope="module")
def absolute(dataset):
    return trained(dataset, "ee_rot6d_joints")


@pytest.fixture(scope="module")
def relative(dataset):
    return trained(dataset, "ee_rot6d_joints_rel")


def write(folder, policy, recipe):
    """The policy's checkpoint, as the loop writes it."""
    (folder / "pretrained_model").mkdir(parents=True)
    policy.save(folder / "pretrained_model")
    training = {"precision": "fp32", "policy": policy.fields}
    write_info(folder, {"step": 1, "vendor": "gr00t", "recipe": recipe.to_dict(), "training": training})
    return folder


@pytest.fixture(scope="module")
def checkpoints(absolute, relative, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    return {name: write(folder / name, *each) for name, each in (("absolute", absolute), ("relative", relative))}


def maker(dataset, policy, size=4):
    return BatchMaker(dataset, in_memory(dataset), SampleOrder(len(dataset), size, 0), policy.action_offsets, True)


def observations(dataset, recipe, numbers):
    """What a robot would have seen at these rows."""
    columns = maker(dataset, trained_offsets()).of(np.asarray(numbers))
    names = [*(column.name for column in recipe.modality.observation_columns), recipe.modality.task_key]
    return [{name: columns[name][k] for name in names} for k in range(len(numbers))]


def trained_offsets():
    class Offsets:
        action_offsets = np.arange(STEPS)

    return Offsets


def drawn(model, count):
    return [np.random.default_rng(k).standard_normal(model.noise_shape, np.float32) for k in range(count)]


@pytest.mark.parametrize("which", ["absolute", "relative"])
def test_every_label_that_counts_comes_back_as_it_was(which, dataset, request):
    """Also those near an episode's end, whose later steps are masked: none is clipped by the statistics."""
    policy, _ = request.getfixturevalue(which)
    batch = maker(dataset, policy).of(np.arange(len(dataset)))
    seen = policy._parts.before(batch_of(policy._parts.steps, to_device(batch, "cpu")))
    again = policy._parts.after(seen["action"].clone()).numpy()
    counts = ~batch["action_is_pad"]
    assert np.abs(again - batch["action"])[counts].max() < 1e-6
    assert np.array_equal(seen["action_mask"][:, :STEPS, 0].numpy() > 0, counts)
    assert not seen["action_mask"][:, STEPS:].any()  # of the 40 steps that the network has
    assert not seen["action_mask"][..., 10:].any()


def test_statistics_are_those_of_the_columns_in_the_order_of_the_state(absolute, dataset):
    """What the network is told of a row is each column between its own smallest and largest number."""
    policy, recipe = absolute
    batch = maker(dataset, policy).of(np.arange(len(dataset)))
    seen = policy._parts.before(batch_of(policy._parts.steps, to_device(batch, "cpu")))["state"][:, 0].numpy()
    start = 0
    for column in state_columns(recipe):
        values = dataset.vectors[column.name]
        low, high = values.min(axis=0), values.max(axis=0)
        moves = np.flatnonzero(high - low > 0.01)
        expected = 2 * (values - low)[:, moves] / (high - low)[moves] - 1
        np.testing.assert_allclose(seen[:, start + moves], expected, atol=1e-5)
        start += column.shape[0]
    assert start == 17
    assert not seen[:, start:].any()


@pytest.mark.parametrize("which", ["absolute", "relative"])
def test_a_number_that_never_moved_stays_small(which, dataset, request):
    """0.001 beside it is a fifth of its floor, whatever the policy predicts."""
    policy, _ = request.getfixturevalue(which)
    batch = maker(dataset, policy).of(np.arange(2))
    still = np.ptp(dataset.vectors["ee_pose"], axis=0) == 0
    assert still.any()
    moved = batch | {"ee_pose": batch["ee_pose"] + 0.001 * still.astype(np.float32)}
    before = policy._parts.before
    seen = [before(batch_of(policy._parts.steps, to_device(each, "cpu")))["state"] for each in (batch, moved)]
    assert 0.1 < (seen[1] - seen[0]).abs().max() < 0.3


def test_a_relative_policy_s_commands_are_rotations(checkpoints, dataset, relative):
    """Rows that are predicted beyond the state's are neither of length one nor at a right angle; a command is."""
    model = native.load_model(checkpoints["relative"], "cpu")
    (chunk,) = model.predict(observations(dataset, relative[1], [7]), drawn(model, 1))
    assert np.abs(np.linalg.norm(chunk[:, 3:6], axis=1) - 1).max() > 1e-3
    poses = [step.arms[""].command.pose for step in relative[1].codec.decode(chunk)]
    matrices = [geometry.quat_to_matrix(pose[3:]) for pose in poses]
    np.testing.assert_allclose([matrix @ matrix.T for matrix in matrices], np.tile(np.eye(3), (STEPS, 1, 1)), atol=1e-9)


@torch.no_grad()
def heed_texts(model):
    """Weights as large as training makes them: what the others' texts would change is then far beyond rounding."""
    head = model._act.args[0]._groot_model.action_head
    for part, factor in ((head.vl_self_attention, 6), (head.model, 4)):
        for parameter in part.parameters():
            parameter *= factor if parameter.dim() > 1 else 1


@pytest.mark.parametrize("which", ["absolute", "relative"])
def test_a_robot_in_a_batch_gets_what_it_gets_alone(which, checkpoints, dataset, request, monkeypatch):
    """With texts of other lengths beside its own, other pictures, other states. In one pass it would not."""
    recipe, model = request.getfixturevalue(which)[1], native.load_model(checkpoints[which], "cpu")
    heed_texts(model)
    seen = observations(dataset, recipe, [3, 70, 100, 170])
    for observation, text in zip(seen, ("cube", None, "Pick up the red cube!", ""), strict=True):
        observation[recipe.modality.task_key] = observation[recipe.modality.task_key] if text is None else text
    noise = drawn(model, 4)
    together = model.predict(seen, noise)
    alone = [model.predict([each], [its])[0] for each, its in zip(seen, noise, strict=True)]
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert together[0].shape == (STEPS, 10)
    monkeypatch.setattr(rows, "by_length", lambda inputs: [(torch.arange(4), dict(inputs))])
    assert np.abs(np.subtract(model.predict(seen, noise), alone)).max() > 1e-5


def test_a_chunk_follows_from_its_noise(checkpoints, dataset, absolute):
    """The same noise gives the same chunk whatever was drawn before, another one another."""
    model = native.load_model(checkpoints["absolute"], "cpu")
    seen, noise = observations(dataset, absolute[1], [5]), drawn(model, 2)
    first = model.predict(seen, noise[:1])[0]
    assert np.abs(model.predict(seen, noise[1:])[0] - first).max() > 0.01
    assert np.array_equal(model.predict(seen, noise[:1])[0], first)


def test_a_toy_knows_the_words_of_its_dataset(absolute, dataset):
    """Every word of the instruction, and of what GR00T puts around it, is one of its own; others are not."""
    policy, recipe = absolute
    batch, unknown = maker(dataset, policy).of(np.arange(2)), 1
    batch[recipe.modality.task_key][1] = "Sing!"
    known, sung = policy._parts.before(batch_of(policy._parts.steps, to_device(batch, "cpu")))["input_ids"]
    assert ((known == unknown).sum(), (sung == unknown).sum()) == (0, 1)


def test_rows_of_one_length_have_no_padding():
    """Two pictures in one row, one in each row of the other: each row keeps its own patches."""
    inputs = {
        "attention_mask": torch.tensor([[0, 1, 1], [1, 1, 1], [0, 1, 1]]),
        "input_ids": torch.tensor([[0, 5, 6], [7, 8, 9], [0, 3, 4]]),
        "image_grid_thw": torch.tensor([[1, 2, 2], [1, 2, 1], [1, 1, 1]]),
        "pixel_values": torch.arange(7)[:, None],
        "state": torch.tensor([[10], [11], [12]]),
    }
    short, long = rows.by_length(inputs)
    assert short[0].tolist() == [0, 2]
    assert short[1]["input_ids"].tolist() == [[5, 6], [3, 4]]
    assert short[1]["pixel_values"].flatten().tolist() == [0, 1, 2, 3, 6]
    assert short[1]["state"].flatten().tolist() == [10, 12]
    assert long[1]["pixel_values"].flatten().tolist() == [4, 5]
    assert long[1]["attention_mask"].tolist() == [[1, 1, 1]]


def test_it_learns(dataset):
    """With noise and dropout held fixed, the loss falls in thirty steps."""
    policy, _ = trained(dataset, "ee_rot6d_joints")
    batches = maker(dataset, policy)
    optimiser = torch.optim.AdamW([p for group in policy.groups() for p in group.parameters], lr=1e-2)

    def loss(number):
        torch.manual_seed(number)
        return policy.loss(to_device(batches[number], "cpu"))

    def fixed():
        with torch.no_grad():
            return np.mean([loss(number).item() for number in range(2)])

    policy.module.train()
    first = fixed()
    for step in range(30):
        optimiser.zero_grad()
        loss(step % 2).backward()
        optimiser.step()
    assert fixed() < 0.9 * first


def test_bf16_is_one_setting(absolute, dataset):
    """LeRobot's autocast follows the run's precision; weights and their gradients stay in fp32."""
    policy, _ = trained(dataset, "ee_rot6d_joints", precision="bf16")
    losses = []
    for each, precision in ((absolute[0], "fp32"), (policy, "bf16")):
        each.module.train()
        torch.manual_seed(0)
        with autocast("cpu", precision):
            losses.append(each.loss(to_device(maker(dataset, each)[0], "cpu")))
    assert losses[0] != losses[1]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=0.02)
    losses[1].backward()
    assert {p.grad.dtype for p in policy.module.parameters() if p.grad is not None} == {torch.float32}


def test_what_is_frozen_stays_and_the_rest_learns(absolute, dataset):
    """The backbone has no gradients, every other part has."""
    policy, _ = absolute
    policy.module.train()
    policy.loss(to_device(maker(dataset, policy)[0], "cpu")).backward()
    graded = {name.split(".")[1] for name, p in policy.module.named_parameters() if p.grad is not None}
    silent = {name.split(".")[1] for name, p in policy.module.named_parameters() if not p.requires_grad}
    assert (graded, silent) == ({"action_head"}, {"backbone"})
    policy.module.zero_grad(set_to_none=True)


@pytest.fixture
def base(absolute, tmp_path):
    """A base's folder as it is published: config, weights in two files, no statistics of this robot."""
    policy, _ = absolute
    folder = tmp_path / "base"
    folder.mkdir()
    policy.save(folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    files = {"model-1.safetensors": names[:50], "model-2.safetensors": names[50:]}
    for file, those in files.items():
        save_file({name: tensors[name] for name in those}, folder / file, {"format": "pt"})
    index = {name: file for file, those in files.items() for name in those}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (folder / "statistics.json").unlink()
    return folder


@pytest.fixture
def train(baked, tmp_path):
    """``train("name", ...)``: run the stage; the experiment's folder."""

    def run(name, *typed):
        where = [f"input_path={baked}", f"output_dir={tmp_path}", f"exp_name={name}"]
        fixed = [
            "batch_size=2",
            "log_freq=1",
            "lr_schedule=constant",
            "warmup_fraction=0",
            "precision=fp32",
            "device=cpu",
        ]
        stage.run(composed("ee_rot6d_joints_rel", "+debug=tiny", *where, *fixed, *typed))
        return tmp_path / name

    return run


def test_a_resumed_run_is_the_run_that_was_not_stopped(train, base):
    """Bit for bit: losses, weights, and everything that lies beside them. The base may be gone by then."""
    start = ("vendor.toy=false", f"vendor.base={base}")
    whole = train("whole", "num_train_steps=4", *start)
    train("halves", "num_train_steps=2", *start)
    shutil.rmtree(base)
    halves = train("halves", "num_train_steps=4", "resume=true", *start)
    losses = [[json.loads(line)["loss"] for line in (each / "metrics.jsonl").open()] for each in (whole, halves)]
    assert losses[0] == losses[1]
    mine, theirs = (list_checkpoints(each)[-1].pretrained_model for each in (whole, halves))
    names = sorted(path.relative_to(mine) for path in mine.rglob("*") if path.is_file())
    assert [(mine / name).read_bytes() for name in names] == [(theirs / name).read_bytes() for name in names]


def test_a_checkpoint_is_whole_without_the_base(base, dataset, tmp_path):
    """Moved, and the base deleted, it gives the same chunk; no file in it names a place on this machine."""
    policy, recipe = trained(dataset, "ee_rot6d_joints_rel", base=base, toy=False)
    seen = observations(dataset, recipe, [9])
    model = native.load_model(write(tmp_path / "here", policy, recipe), "cpu")
    noise = drawn(model, 1)
    before = model.predict(seen, noise)[0]
    shutil.move(tmp_path / "here", tmp_path / "moved")
    shutil.rmtree(base)
    assert np.array_equal(native.load_model(tmp_path / "moved", "cpu").predict(seen, noise)[0], before)
    texts = [path.read_text() for path in (tmp_path / "moved" / "pretrained_model").rglob("*.json")]
    assert not [text for text in texts if str(tmp_path) in text or "/tmp/" in text]


def test_training_starts_from_the_weights_of_the_base(base, absolute, dataset):
    """Every tensor, whatever the seed."""
    policy, _ = trained(dataset, "ee_rot6d_joints", base=base, toy=False)
    theirs = dict(absolute[0].module.named_parameters())
    torch.manual_seed(7)
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in policy.module.named_parameters())


def test_the_layout_is_upstream_s_and_lerobot_reads_it(checkpoints, dataset, absolute, tmp_path):
    """Its own class and processors, given the folder as a base, predict our chunk."""
    from lerobot.policies.groot.modeling_groot import GrootPolicy
    from lerobot.policies.groot.processor_groot import make_groot_pre_post_processors

    policy, recipe = absolute
    folder = shutil.copytree(checkpoints["absolute"] / "pretrained_model", tmp_path / "theirs")
    names = {path.name for path in folder.iterdir()}
    three = {"processor_config.json", "statistics.json", "embodiment_id.json"}
    assert names == {"config.json", "model.safetensors", *three, BACKBONE}
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "Gr00tN1d7"
    assert {name.split(".")[0] for name in load_file(folder / "model.safetensors")} == {"backbone", "action_head"}

    (folder / "config.json").write_text(json.dumps(config | {"model_name": str(folder / BACKBONE)}))
    theirs_config = replace(policy._parts.config, base_model_path=str(folder))
    theirs = GrootPolicy(theirs_config).eval()
    before, after = make_groot_pre_post_processors(theirs_config)
    next(step for step in before.steps if hasattr(step, "model_name")).model_name = str(folder / BACKBONE)
    seen = observations(dataset, recipe, [20])
    columns = {
        name: value if isinstance(value, str) else torch.from_numpy(value)[None] for name, value in seen[0].items()
    }
    columns = {name: [value] if isinstance(value, str) else value for name, value in columns.items()}
    batch = before(batch_of(policy._parts.steps, to_device(columns, "cpu")))
    torch.manual_seed(3)
    chunk = after(theirs.predict_action_chunk(batch))[0].numpy()

    model = native.load_model(checkpoints["absolute"], "cpu")
    torch.manual_seed(3)
    ours = model.predict(seen, [torch.randn(1, *model.noise_shape)[0].numpy()])[0]
    np.testing.assert_allclose(ours, chunk, atol=3e-5)


def test_a_base_that_is_not_whole_is_refused(base, dataset):
    """Nothing is made up for what is missing, and a tensor of another shape is named."""
    second = base / "model-2.safetensors"
    tensors = load_file(second)
    name = sorted(tensors)[0]
    save_file({key: tensors[key] for key in tensors if key != name}, second, {"format": "pt"})
    with pytest.raises(PositronicError, match=f"lack 1 of .* tensors \\({name}"):
        trained(dataset, "ee_rot6d_joints", base=base, toy=False)
    save_file(tensors | {name: tensors[name][..., :-1].contiguous()}, second, {"format": "pt"})
    with pytest.raises(PositronicError, match=f"another network .*'{name}': expected"):
        trained(dataset, "ee_rot6d_joints", base=base, toy=False)
    second.write_bytes(second.read_bytes()[:1000])
    with pytest.raises(PositronicError, match="cannot be loaded .*Fetch them again"):
        trained(dataset, "ee_rot6d_joints", base=base, toy=False)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("{")], ids=["missing", "cut"])
def test_a_base_whose_backbone_s_config_is_damaged_is_refused(base, dataset, damage):
    """It says the sizes. The message names the base, and no copy of it."""
    damage(base / BACKBONE / "config.json")
    with pytest.raises(PositronicError, match=rf"vendor\.base={base / BACKBONE}.* cannot be read .*[Ff]etch"):
        trained(dataset, "ee_rot6d_joints", base=base, toy=False)


@pytest.mark.parametrize(
    ("text", "said"),
    [("{}", r"expected .*\bpatch_size=16.*found .*\bpatch_size=14"), ("{", "cannot be read"), ("[]", "cannot be read")],
)
def test_a_base_whose_pictures_would_be_cut_otherwise_is_refused(base, dataset, text, said):
    """The file says how; an empty one leaves it to defaults, which are of another network."""
    (base / BACKBONE / "preprocessor_config.json").write_text(text)
    with pytest.raises(
        PositronicError, match=rf"vendor\.base={base / BACKBONE}.*{said}.*Fetch them again: hf download"
    ):
        trained(dataset, "ee_rot6d_joints", base=base, toy=False)


def test_a_base_of_another_kind_is_refused(dataset, tmp_path):
    """An empty folder, and one with another library's config."""
    for found in ("no", "another"):
        with pytest.raises(PositronicError, match=rf"expected the folder of a GR00T N1\.7.*found {found} config\.json"):
            trained(dataset, "ee_rot6d_joints", base=tmp_path, toy=False)
        (tmp_path / "config.json").write_text('{"type": "act"}')


def test_a_base_without_its_tokenizer_says_what_to_bring(base, dataset):
    """There is no network here: the message names the folder, and the command that fills it."""
    shutil.rmtree(base / BACKBONE)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"model_name": network.COSMOS}))
    with pytest.raises(PositronicError, match=rf"hf download {network.COSMOS} .*bring that folder: {base / BACKBONE}"):
        trained(dataset, "ee_rot6d_joints", base=base, toy=False)


def test_what_hf_download_leaves_beside_the_tokenizer_stays_there(base, dataset, tmp_path):
    """Its notes lie two folders deep, under a name that begins with a dot."""
    notes = base / BACKBONE / ".cache/huggingface/download/tokenizer.json.metadata"
    notes.parent.mkdir(parents=True)
    notes.write_text("of the hub")
    (base / BACKBONE / "of/the").mkdir(parents=True)
    (base / BACKBONE / "of/the/licence.txt").write_text("kept")
    made = write(tmp_path / "it", *trained(dataset, "ee_rot6d_joints", base=base, toy=False)) / "pretrained_model"
    assert not list(made.rglob(".cache"))
    assert (made / BACKBONE / "of/the/licence.txt").read_text() == "kept"


def test_a_base_without_its_chat_template_is_refused(base, dataset):
    """Not at the first step of training."""
    (base / BACKBONE / "chat_template.jinja").unlink()
    with pytest.raises(PositronicError, match=r"no chat template.*hf download"):
        trained(dataset, "ee_rot6d_joints", base=base, toy=False)


def test_a_checkpoint_of_our_own_is_a_base_for_its_own_recipe(checkpoints, dataset):
    """Another horizon, codec or kind of action is refused with both sides."""
    where = {"base": checkpoints["relative"], "toy": False}
    policy, _ = trained(dataset, "ee_rot6d_joints_rel", **where)
    saved = load_file(checkpoints["relative"] / "pretrained_model" / "model.safetensors")
    mine = policy.module._groot_model.state_dict()
    assert all(torch.equal(mine[name], tensor) for name, tensor in saved.items())
    with pytest.raises(ConventionError, match=r"vendor\.policy\.chunk_size: vendor\.base=.* has 16; this run has 8"):
        trained(dataset, "ee_rot6d_joints_rel", "modality.action_chunk=8", **where)
    with pytest.raises(
        ConventionError, match=r"modality\.relative_actions: vendor\.base=.* has True; this run has False"
    ):
        trained(dataset, "ee_rot6d_joints", **where)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"toy": False}, r"vendor\.base=random: GR00T is fine-tuned.*vendor\.toy=true"),
        ({"base": Path("somewhere")}, r"vendor\.toy=true makes its own.*vendor\.base=random"),
    ],
)
def test_a_toy_is_random_and_nothing_else_is(dataset, spec, said):
    """Three billion random weights would be trained for nothing."""
    with pytest.raises(PositronicError, match=said):
        trained(dataset, "ee_rot6d_joints", **spec)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("+vendor.policy.lora=8", r"vendor\.policy\.lora: GrootConfig has no such field"),
        ("vendor.policy.use_flash_attention=true", "needs the package flash-attn"),
    ],
)
def test_what_gr00t_cannot_take_is_refused_before_a_dataset_is_opened(typed, said):
    """One sentence each."""
    config = composed("ee_rot6d_joints", typed)
    with pytest.raises(PositronicError, match=said):
        native.check_policy(build(config.codec, config.modality), config.vendor.policy)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("modality.action_chunk=41", r"modality\.action_chunk=41: GR00T N1\.7 predicts 1 to 40 steps"),
        ("modality.action_chunk=null", r"modality\.action_chunk=None"),
        ("vendor.policy.chunk_size=8", r"say modality\.action_chunk=\.\.\."),
        ("vendor.policy.use_bf16=false", r"say precision=bf16"),
        ("vendor.policy.base_model_path=x", r"say vendor\.base="),
        ("vendor.policy.lora_rank=8", "does not read it"),
        ("vendor.policy.type=act", "vendor=gr00t trains groot alone"),
    ],
)
def test_what_gr00t_does_not_have_is_refused_as_it_is_typed(typed, said):
    """Too many steps, with the number; fields that have another place, or none."""
    with pytest.raises(PositronicError, match=said):
        composed("ee_rot6d_joints", typed)


def test_a_relative_action_needs_its_state():
    """The commanded pose of a robot whose state has no pose."""
    config = composed("joints_traj", "modality.relative_actions=true")
    recipe = build(
        replace(config.codec, action="ee_pose"),
        replace(config.modality, columns=config.modality.columns | {"action": ["action.ee_pose", "action.grip"]}),
    )
    with pytest.raises(
        PositronicError, match=r"'ee_pose' would be relative to a state column.*has grip, joint_position"
    ):
        native.check_policy(recipe, config.vendor.policy)


def made_up(recipe):
    """A dataset of random numbers, two episodes of 20 frames, for any recipe."""
    random = np.random.default_rng(0)
    vectors = {c.name: random.normal(size=(40, c.shape[0])).astype(np.float32) for c in recipe.modality.vector_columns}
    stats = {name: statistics.of_rows(values) for name, values in vectors.items()}
    ends = np.array([20, 40])
    places = {"starts": ends - 20, "ends": ends, "videos": {}, "tasks": ("pick",), "task_of": np.zeros(40, np.int64)}
    return BakedDataset(Path(), recipe, None, vectors, stats=stats, numbers=np.arange(2), uids=("a", "b"), **places)


def learnt_and_played(recipe, policy, tmp_path):
    """One step, a checkpoint, and a chunk from it."""
    dataset = made_up(recipe)
    made = native.make_trainable(PolicySpec(recipe, dataset.stats, policy, "cpu", toy=True, dataset=dataset))
    noise = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3)).astype(np.uint8)
    frames = CachedFrames({column.name: noise for column in recipe.modality.image_columns})
    batches = BatchMaker(dataset, frames, SampleOrder(40, 2, 0), made.action_offsets, True)
    made.loss(to_device(batches[0], "cpu")).backward()
    model = native.load_model(write(tmp_path / "it", made, recipe), "cpu")
    columns = batches[0]
    names = [column.name for column in recipe.modality.observation_columns]
    (chunk,) = model.predict([{name: columns[name][0] for name in names} | {recipe.modality.task_key: "pick"}])
    return chunk


def test_two_arms_have_parts_of_their_own(tmp_path):
    """left_joint_position, left_grip, right_...: in the state as in the action."""
    config = composed("joints_cmd", "embodiment=aloha")
    recipe = build(config.codec, config.modality, embodiment=build_embodiment(config.embodiment))
    assert learnt_and_played(recipe, config.vendor.policy, tmp_path).shape == (STEPS, 14)
    parts = json.loads((tmp_path / "it/pretrained_model/processor_config.json").read_text())["processor_kwargs"]
    of = {kind: each["modality_keys"] for kind, each in parts["modality_configs"]["new_embodiment"].items()}
    both = ["left_joint_position", "left_grip", "right_joint_position", "right_grip"]
    assert of["action"] == both
    assert sorted(of["state"]) == sorted(both)
