"""π0.5 as a toy: trained by the product's own loop, resumed, loaded, asked for chunks."""

import importlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import positronic
from positronic import keys
from positronic.bake.frame_source import in_memory
from positronic.bake.reader import open_baked
from positronic.codecs.build import build
from positronic.embodiments.embodiment import build_embodiment
from positronic.errors import PositronicError
from positronic.policies import library
from positronic.policies.model import PolicyModel
from positronic.policies.steps import batch_of
from positronic.policies.trainable import PolicyTrainable
from positronic.policies.weights import load_config
from positronic.raw.writer import DatasetWriter
from positronic.stages.convert import run as run_convert
from positronic.stages.train import run as run_train
from positronic.training.batches import BatchMaker, SampleOrder
from positronic.training.checkpoints import list_checkpoints, read_info, trained_recipe
from positronic.training.device import to_device
from positronic.training.trainable import PolicySpec
from positronic.vendors import registry
from positronic.vendors.openpi import native
from positronic.vendors.openpi.export import export
from positronic.vendors.openpi.lora import add_adapters
from positronic.vendors.openpi.loss import masked_loss
from positronic.vendors.openpi.norm_stats import delta_mask
from positronic.vendors.openpi.tokens import load_tokenizer
from positronic.vendors.openpi.toy import built_at, toy_in

torch.set_num_threads(1)  # these tests share their cores

SIDE, LEFT = "observation.images.side", "observation.images.left"
LORA, FULL = "pi05_positronic_lowmem", "pi05_positronic"
STEPS = 4
"""of the runs here; a checkpoint after each second one"""
A_CHUNK = (50, 8)


def typed(path, folder, *more):
    fixed = ["stage=train", "vendor=openpi", "modality.image_size=[56,56]", f"input_path={path}"]
    fixed += [f"output_dir={folder}", "vendor.toy=true", "vendor.base=random", "device=cpu", "precision=fp32"]
    fixed += [f"num_train_steps={STEPS}", "save_freq=2", "log_freq=1", "batch_size=4", "learning_rate=1e-3"]
    return [*fixed, *more]


@pytest.fixture(scope="module")
def experiments(openpi_path, tmp_path_factory):
    """Trained whole and with adapters: name of the config -> folder."""
    folder = tmp_path_factory.mktemp("experiments")
    made = {}
    for name in (LORA, FULL):
        config = positronic.compose(typed(openpi_path, folder, f"exp_name={name}", f"modality.config_name={name}"))
        run_train(config)
        made[name] = folder / name
    return made


@pytest.fixture(scope="module")
def dataset(openpi_path):
    return open_baked(openpi_path)


def spec(dataset, *more, **values):
    """What to build for ``dataset``, with what is typed."""
    config = positronic.compose(["stage=train", "vendor=openpi", "modality.image_size=[56,56]", *more])
    recipe = build(config.codec, config.modality, dataset.recipe.reference_rotations)
    return PolicySpec(recipe, dataset.stats, config.vendor.policy, "cpu", **{"toy": True, "dataset": dataset} | values)


@pytest.fixture(scope="module")
def trainable(dataset):
    torch.manual_seed(0)
    return native.make_trainable(spec(dataset))


@pytest.fixture(scope="module")
def maker(dataset, trainable):
    order = SampleOrder(len(dataset), 4, 0)
    return BatchMaker(dataset, in_memory(dataset), order, trainable.action_offsets, trainable.with_task)


@pytest.fixture(scope="module")
def model(experiments):
    return registry.load_model("openpi", list_checkpoints(experiments[LORA])[-1].path, "cpu")


@pytest.fixture
def observations(dataset):
    """Four observations with prompts of four lengths."""
    rows, numbers = [3, 70, 130, 175], np.random.default_rng(0)
    prompts = ["", "Stack.", "Pick up the green cube and put it on the red one.", "Stack, slowly."]
    return [
        {name: numbers.integers(0, 256, (56, 56, 3)).astype(np.uint8) for name in (LEFT, SIDE)}
        | {"observation.state": dataset.vectors["observation.state"][row], "prompt": prompt}
        for row, prompt in zip(rows, prompts, strict=True)
    ]


def noise_of(number):
    return np.random.default_rng(number).normal(size=(50, 32)).astype(np.float32)


@pytest.mark.parametrize("name", [LORA, FULL])
def test_a_resumed_run_is_the_same_bit_for_bit(experiments, openpi_path, tmp_path, name):
    """Weights, adapters, optimiser and losses."""
    whole = experiments[name]
    shutil.copytree(whole, tmp_path / name)
    shutil.rmtree(tmp_path / name / "checkpoints" / "000004")
    more = (f"exp_name={name}", f"modality.config_name={name}", "resume=true")
    run_train(positronic.compose(typed(openpi_path, tmp_path, *more)))
    last = "checkpoints/000004/pretrained_model/model.safetensors"
    assert (tmp_path / name / last).read_bytes() == (whole / last).read_bytes()
    losses = [
        [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (whole, tmp_path / name)
    ]
    assert len(losses[0]) == STEPS
    assert losses[0] == losses[1]


def test_training_learns(trainable, maker):
    """At the same noise, the loss falls within twenty steps."""

    def at_fixed_noise():
        with torch.no_grad(), torch.random.fork_rng([]):
            torch.manual_seed(0)
            return np.mean([float(trainable.loss(to_device(maker[step], "cpu"))) for step in range(4)])

    before = at_fixed_noise()
    optimiser = torch.optim.AdamW([p for p in trainable.module.parameters() if p.requires_grad], lr=1e-2)
    for step in range(20):
        optimiser.zero_grad()
        trainable.loss(to_device(maker[step], "cpu")).backward()
        optimiser.step()
    assert at_fixed_noise() < 0.8 * before


def test_labels_go_there_and_back(trainable, maker):
    """Relative and normalised before the network, absolute after it."""
    seen = trainable._parts.before(batch_of(trainable._parts.steps, to_device(maker[0], "cpu")))
    assert seen["action"].abs().max() < 10
    torch.testing.assert_close(trainable._parts.after(seen["action"]), torch.from_numpy(maker[0]["action"]))


def test_arms_are_relative_to_the_state_and_grippers_are_not(trainable, dataset):
    """By the names that openpi's own statistics go by."""
    relative = next(step for step in trainable._parts.before.steps if hasattr(step, "get_cached_state"))
    assert relative._build_mask(8) == list(delta_mask(dataset.recipe)) == [True] * 7 + [False]


def test_each_of_two_grippers_is_absolute():
    """Arm after arm, as their names say."""
    config = positronic.compose(["stage=convert", "vendor=openpi", "codec=joints_cmd", "embodiment=aloha"])
    recipe = build(config.codec, config.modality, embodiment=build_embodiment(config.embodiment))
    library.config_class("pi05")
    from lerobot.processor import RelativeActionsProcessorStep

    lerobot_s = native.config_of(recipe, {"type": "pi05"})
    step = RelativeActionsProcessorStep(True, lerobot_s.relative_exclude_joints, lerobot_s.action_feature_names)
    assert step._build_mask(14) == list(delta_mask(recipe)) == ([True] * 6 + [False]) * 2


def test_statistics_are_those_of_openpi_s_file(dataset):
    """Of chunks relative to the state, over the whole dataset, but for the floors."""
    file = json.loads(next(dataset.root.glob("assets/*/*/norm_stats.json")).read_text())["norm_stats"]["actions"]
    made = native.statistics(spec(dataset))["action"]
    for name in ("mean", "q01", "q99"):
        wide = made["q99"] - made["q01"] > 0.0101
        assert wide.sum() >= 5
        np.testing.assert_array_equal(made[name][wide], np.array(file[name][:8])[wide])


def test_statistics_are_those_of_the_episodes_that_are_trained_on(dataset):
    """Another choice, other numbers: as if only these had been baked."""
    part = dataset.only([0, 2], dataset.stats)
    rows = np.concatenate([_relative_rows(dataset, episode) for episode in (0, 2)])
    made = native.statistics(spec(part))["action"]
    np.testing.assert_allclose(made["mean"], rows.mean(axis=0), rtol=1e-6, atol=1e-9)
    assert not np.array_equal(made["mean"], native.statistics(spec(dataset))["action"]["mean"])


def _relative_rows(dataset, episode):
    """Frame by frame, step by step: what openpi's loader gives."""
    rows = slice(dataset.starts[episode], dataset.ends[episode])
    states, actions = dataset.vectors["observation.state"][rows], dataset.vectors["action"][rows]
    steps = [(k, min(k + step, len(actions) - 1)) for k in range(len(actions)) for step in range(50)]
    return np.array([actions[to] - np.append(states[k][:7], 0) for k, to in steps], np.float64)


def test_a_dimension_that_never_moved_stays_small(trainable, dataset):
    """0.001 off it is a fraction of a unit; by openpi's own formula it would be hundreds of them, by LeRobot's 10^5."""
    state = dataset.vectors["observation.state"]
    still = np.ptp(state, axis=0) < 1e-6
    assert still.any()
    off = {"observation.state": torch.from_numpy(state[:1] + 0.001 * still), "task": ["Stack."]}
    seen = trainable._parts.before(off | {"observation.images.side": torch.zeros(1, 3, 56, 56)})
    assert seen["observation.state"].abs().max() < 3


def test_cameras_come_in_the_order_of_openpi_s_pretraining(trainable, dataset):
    """Exterior, then wrist; the dataset has them the other way round."""
    assert [c.name for c in dataset.recipe.modality.image_columns] == [LEFT, SIDE]
    assert list(trainable._parts.config.image_features) == [SIDE, LEFT]


def test_a_masked_camera_changes_nothing(dataset):
    """So one that is missing is left out, which costs nothing."""
    chunks = []
    for empty in (0, 1):
        torch.manual_seed(0)
        made = native.make_trainable(spec(dataset, f"vendor.policy.empty_cameras={empty}"))
        seen = made._parts.before(batch_of(made._parts.steps, to_device(one_of_each(dataset), "cpu")))
        images, masks = made.module._preprocess_images(seen)
        assert (len(images), [bool(mask.all()) for mask in masks]) == (2 + empty, [True, True, False][: 2 + empty])
        chunks.append(made.module.predict_action_chunk(seen, noise=torch.from_numpy(noise_of(0))[None]))
    torch.testing.assert_close(chunks[0], chunks[1], rtol=0, atol=1e-5)


def one_of_each(dataset):
    """A batch of one, as columns."""
    images = np.random.default_rng(0).integers(0, 256, (2, 1, 56, 56, 3)).astype(np.uint8)
    state = dataset.vectors["observation.state"][:1].copy()
    return {SIDE: images[0], LEFT: images[1], "observation.state": state, "prompt": ["Stack."]}


@pytest.mark.parametrize("name", [LORA, FULL])
def test_a_checkpoint_holds_no_weights_without_use(experiments, name):
    """Neither of the heads that predict words: at real size, 790 M parameters."""
    with safe_open(weights_of(experiments[name]), "pt") as file:
        names = list(file.keys())
    assert not [each for each in names if "lm_head" in each]
    assert any("lora_a" in each for each in names) == (name == LORA)


def test_lora_trains_what_openpi_trains(experiments):
    """Adapters, vision and the layers around actions; the language models stay, bit for bit."""
    first, last = (load_file(weights_of(experiments[LORA], step)) for step in (2, 4))
    changed = {name for name in last if not torch.equal(first[name], last[name])}
    language = {name for name in last if "language_model" in name or "gemma_expert" in name}
    assert changed & language == {name for name in language if name.endswith(("lora_a", "lora_b"))} - LAST_LAYER
    assert {"model.action_in_proj.weight", "model.action_out_proj.bias"} < changed
    assert any("vision_tower" in name for name in changed)


# Of the last layer of the language model only keys and values are looked at.
LAST_LAYER = {
    f"model.paligemma_with_expert.paligemma.model.language_model.layers.1.{layer}.{factor}"
    for layer in ("self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
    for factor in ("lora_a", "lora_b")
}


def weights_of(experiment, step=STEPS):
    return experiment / f"checkpoints/{step:06d}/pretrained_model/model.safetensors"


def test_a_batch_of_robots_is_answered_as_each_alone(model, observations):
    """Four states, four prompts, each robot with its own noise."""
    noise = [noise_of(number) for number in range(4)]
    together = model.predict(observations, noise)
    alone = [model.predict([seen], [start])[0] for seen, start in zip(observations, noise, strict=True)]
    assert model.noise_shape == (50, 32)
    assert together[0].shape == A_CHUNK
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-6)
    assert not np.allclose(model.predict(observations[:1], [noise_of(9)])[0], together[0], atol=1e-3)


def test_a_prompt_is_read(model, observations):
    """Another instruction, another chunk."""
    noise, seen = [noise_of(0)], observations[1]
    other = seen | {"prompt": "Pick up the green cube."}
    assert not np.array_equal(model.predict([seen], noise)[0], model.predict([other], noise)[0])


@pytest.mark.parametrize("name", [LORA, FULL])
def test_a_checkpoint_needs_nothing_outside_of_it(experiments, openpi_path, tmp_path, observations, name):
    """Fine-tuned from a base that is deleted, then moved: the same chunk. It names no folder."""
    base = shutil.copytree(weights_of(experiments[name]).parents[1], tmp_path / "base")
    run_train(positronic.compose([*finer(openpi_path, tmp_path, base, name), "num_train_steps=1"]))
    checkpoint = tmp_path / "finer/checkpoints/000001"
    chunk = registry.load_model("openpi", checkpoint, "cpu").predict(observations[:1], [noise_of(0)])
    moved = shutil.move(checkpoint, tmp_path / "moved")
    shutil.rmtree(base)
    np.testing.assert_array_equal(
        registry.load_model("openpi", moved, "cpu").predict(observations[:1], [noise_of(0)]), chunk
    )
    texts = [path.read_text() for path in (moved / "pretrained_model").rglob("*.json")]
    assert not [text for text in texts if str(tmp_path) in text]


OF_A_TOY = ("vendor.toy=true", "vendor.base=random")
OF_LENGTH = (f"num_train_steps={STEPS}",)


def finer(path, folder, base, name):
    """Typed to fine-tune ``base``; it says itself that it is a toy."""
    more = (f"vendor.base={base}", f"modality.config_name={name}", "exp_name=finer")
    return [each for each in typed(path, folder, *more) if each not in (*OF_A_TOY, *OF_LENGTH)]


def test_training_goes_on_without_the_base(experiments, openpi_path, tmp_path):
    """Tokenizer, sizes and weights are in the checkpoint."""
    base = shutil.copytree(weights_of(experiments[FULL]).parents[1], tmp_path / "base")
    line = finer(openpi_path, tmp_path, base, FULL)
    run_train(positronic.compose([*line, "num_train_steps=2"]))
    shutil.rmtree(base)
    run_train(positronic.compose([*line, "num_train_steps=3", "resume=true"]))
    assert (tmp_path / "finer/checkpoints/000003").is_dir()


def test_a_base_of_another_codec_or_horizon_is_refused(experiments, dataset):
    """With both sides."""
    base = weights_of(experiments[FULL]).parents[1]
    with pytest.raises(PositronicError, match=r"chunk_size: vendor.base=.* has 50; this run has 10"):
        native.make_trainable(spec(dataset, "modality.action_chunk=10", toy=False, base=base))
    with pytest.raises(PositronicError, match=r"(?s)vendor.base=.*joint_position"):
        native.make_trainable(spec(dataset, "codec=joints_traj", toy=False, base=base))


def test_padding_counts_as_with_openpi_unless_it_is_masked(dataset, maker, trainable):
    """The mean over real steps: with that over the others it makes the mean over all, which is openpi's."""
    masked = PolicyTrainable(trainable._parts, lambda folder: None, masked_loss)

    def loss_of(policy, batch):
        torch.manual_seed(0)
        return policy.loss(to_device(batch, "cpu")).item()

    padded = maker.of(np.array([40, 58, 119, 100]))
    padding = padded["action_is_pad"]
    assert 0 < padding.sum() < padding.size
    real, beyond, all_ = (padded | {"action_is_pad": each} for each in (padding, ~padding, np.zeros_like(padding)))
    whole = loss_of(trainable, padded)
    assert loss_of(masked, all_) == pytest.approx(whole, rel=1e-6)
    parts = loss_of(masked, real) * (~padding).sum() + loss_of(masked, beyond) * padding.sum()
    assert parts / padding.size == pytest.approx(whole, rel=1e-6)
    assert loss_of(masked, real) != pytest.approx(whole, rel=1e-3)


def test_mask_padding_is_kept_by_a_resumed_run(openpi_path, tmp_path):
    """It shapes every step."""
    line = [each for each in typed(openpi_path, tmp_path, "exp_name=masked") if each not in OF_LENGTH]
    line += ["num_train_steps=1"]
    run_train(positronic.compose([*line, "vendor.mask_padding=true"]))
    with pytest.raises(PositronicError, match="vendor.mask_padding: the checkpoint has True; this run has False"):
        run_train(positronic.compose([*line, "resume=true"]))


def test_bf16_leaves_adapters_norms_and_positions_in_float32(dataset):
    """The base's language models alone are halved, and frozen."""
    made = native.make_trainable(spec(dataset, precision="bf16"))
    network = made.module.model.paligemma_with_expert
    layer = network.paligemma.model.language_model.layers[0]
    assert layer.self_attn.q_proj.weight.dtype == torch.bfloat16
    single = (layer.self_attn.q_proj.lora_a, layer.input_layernorm.weight, made.module.model.action_in_proj.weight)
    assert {tensor.dtype for tensor in single} == {torch.float32}
    assert network.paligemma.model.language_model.rotary_emb.inv_freq.dtype == torch.float32
    assert {p.dtype for p in made.module.parameters() if p.requires_grad} == {torch.float32}


def test_a_run_in_bf16_is_served(openpi_path, tmp_path, observations):
    """The checkpoint keeps the types, and its chunk is float32."""
    line = [each for each in typed(openpi_path, tmp_path, "exp_name=half") if each not in OF_LENGTH]
    run_train(
        positronic.compose(
            [*[each for each in line if each != "precision=fp32"], "precision=bf16", "num_train_steps=1"]
        )
    )
    (chunk,) = registry.load_model("openpi", tmp_path / "half/checkpoints/000001", "cpu").predict(observations[:1])
    assert (chunk.dtype, chunk.shape) == (np.float32, A_CHUNK)
    assert np.isfinite(chunk).all()


def test_expert_only_trains_the_expert_alone(dataset):
    more = ("modality.config_name=pi05_positronic", "vendor.policy.train_expert_only=true")
    made = native.make_trainable(spec(dataset, *more))
    trained = [name for name, p in made.module.named_parameters() if p.requires_grad]
    assert trained
    assert not [name for name in trained if "paligemma." in name]


def test_a_prompt_that_would_be_cut_is_refused(dataset):
    """With the length that it needs."""
    with pytest.raises(PositronicError, match=r"takes up to \d+ tokens, and 12 are read. Type vendor.policy.tokenizer"):
        native.make_trainable(spec(dataset, "vendor.policy.tokenizer_max_length=12"))


def test_a_policy_without_eyes_is_refused(dataset):
    with pytest.raises(PositronicError, match=r"at least one, found none. Type codec.images="):
        native.make_trainable(spec(dataset, "codec.images=[]"))


def test_a_tokenizer_that_cannot_be_fetched_names_the_files_to_bring(dataset):
    """Offline, as these tests are, and with no folder to find it in."""
    with pytest.raises(PositronicError, match=r"paligemma-3b-pt-224.*put tokenizer.json, .*tokenizer/"):
        native.make_trainable(spec(dataset, toy=False))


def test_lerobot_reads_the_processors(experiments):
    """Its own function, given the tokenizer."""
    from lerobot.policies import make_pre_post_processors

    folder = weights_of(experiments[FULL]).parent
    tokenizer = {"tokenizer_processor": {"tokenizer": load_tokenizer(folder / "tokenizer")}}
    before, after = make_pre_post_processors(
        load_config(folder, "cpu"), pretrained_path=str(folder), preprocessor_overrides=tokenizer
    )
    seen = before({"observation.state": torch.full((1, 8), 0.5), "task": ["Stack."]})
    assert after(torch.zeros(1, 50, 8)).shape == (1, *A_CHUNK)
    assert seen["observation.language.tokens"].shape == (1, 96)


@pytest.mark.parametrize("name", [LORA, FULL])
def test_lerobot_loads_what_is_exported(experiments, tmp_path, observations, name):
    """Its own from_pretrained: weights in float32, adapters merged, the same chunk to 1e-5."""
    checkpoint = list_checkpoints(experiments[name])[-1].path
    export(checkpoint, tmp_path / "exported")
    with built_at(toy_in(tmp_path / "exported")):
        policy = library.policy_class("pi05").from_pretrained(tmp_path / "exported", strict=False)
    assert {tensor.dtype for tensor in load_file(tmp_path / "exported/model.safetensors").values()} == {torch.float32}
    served = registry.load_model("openpi", checkpoint, "cpu")
    parts = replace(served._parts, module=policy.eval())

    def act(seen, noise):
        return policy.predict_action_chunk(seen, noise=noise)

    theirs = PolicyModel(parts, act, trained_recipe(read_info(checkpoint)), "cpu", (50, 32))
    noise = [noise_of(0)]
    expected = served.predict(observations[:1], noise)
    np.testing.assert_allclose(theirs.predict(observations[:1], noise), expected, rtol=0, atol=1e-5)


def test_what_is_exported_is_a_base(experiments, openpi_path, tmp_path):
    """Merged, it is fine-tuned whole."""
    export(list_checkpoints(experiments[LORA])[-1].path, tmp_path / "exported")
    run_train(positronic.compose([*finer(openpi_path, tmp_path, tmp_path / "exported", FULL), "num_train_steps=1"]))
    assert (tmp_path / "finer/checkpoints/000001").is_dir()


def test_sizes_at_real_size():
    """As counted of openpi: 3353 M parameters, of which LoRA trains adapters, vision and the layers around actions."""
    config = library.config_class("pi05")(device="cpu")
    module = importlib.import_module("lerobot.policies.pi05.modeling_pi05")
    with torch.device("meta"):
        network = module.PI05Pytorch(config)
    for head in ("paligemma", "gemma_expert"):
        getattr(network.paligemma_with_expert, head).lm_head = None
    weights = sum(p.numel() for p in network.parameters())
    add_adapters(network.paligemma_with_expert)
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    adapters = sum(p.numel() for name, p in network.named_parameters() if "lora" in name)
    assert [round(count / 1e6) for count in (weights, adapters, trained)] == [3353, 42, 459]


def record(folder):
    """Two episodes with everything that a codec may ask for."""
    numbers, writer = np.random.default_rng(0), DatasetWriter(folder)
    for _ in range(2):
        with writer.new_episode() as episode:
            for k in range(13):
                pose = np.append(numbers.normal(size=3), [1.0, 0.0, 0.0, 0.0])
                values = {keys.EE_POSE: pose, keys.COMMAND_POSE: pose, keys.GRIP: k / 12, keys.TARGET_GRIP: 1 - k / 12}
                values |= {keys.JOINT_POSITION: numbers.normal(size=7), keys.COMMAND_JOINTS: numbers.normal(size=7)}
                for camera in (keys.IMAGE_WRIST, keys.IMAGE_EXTERIOR):
                    values[camera] = numbers.integers(0, 256, (32, 32, 3)).astype(np.uint8)
                for name, value in values.items():
                    episode.append(name, value, k * 10**9 // 15)
            episode.set_static(keys.TASK, "Stack.")


CODECS = ("ee", "ee_traj", "ee_joints", "ee_joints_traj", "ee_joints_cmd", "joints_traj", "joints_cmd")


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_is_converted_trained_and_asked(tmp_path, codec):
    """The chunk has the action's numbers, in the robot's units."""
    record(tmp_path / "raw")
    side = "modality.image_size=[32,32]"
    source = ["dataset=local", f"dataset.path={tmp_path / 'raw'}", "vendor=openpi", f"codec={codec}", side]
    run_convert(positronic.compose(["stage=convert", *source, f"output_dir={tmp_path / 'baked'}", "num_workers=1"]))
    line = [each for each in typed(tmp_path / "baked", tmp_path, "exp_name=e") if each not in OF_LENGTH]
    line = [each for each in line if "image_size" not in each]
    run_train(positronic.compose([*line, side, f"codec={codec}", "num_train_steps=2"]))
    dataset = open_baked(tmp_path / "baked")
    model = registry.load_model("openpi", tmp_path / "e/checkpoints/000002", "cpu")
    seen = {name: np.zeros((32, 32, 3), np.uint8) for name in (LEFT, SIDE)} | {"prompt": "Stack."}
    (chunk,) = model.predict([seen | {"observation.state": dataset.vectors["observation.state"][0]}], [noise_of(0)])
    assert chunk.shape == (50, dataset.recipe.codec.action_size)
    assert np.isfinite(chunk).all()


def test_the_codecs_here_are_all_that_are_trained():
    """A codec that is added gets its run."""
    files = (Path(__file__).parents[2] / "conf/modality/openpi").glob("[!_]*.yaml")
    assert {path.stem for path in files} - {"from_checkpoint", "droid"} == set(CODECS)
