"""π0.5 as a toy: trained by the product's own loop, resumed, loaded, asked for chunks."""

import importlib
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import positronic
from positronic.bake.frame_source import in_memory
from positronic.bake.reader import open_baked
from positronic.codecs.build import build
from positronic.embodiments.embodiment import build_embodiment
from positronic.errors import PositronicError
from positronic.policies import library
from positronic.policies.steps import batch_of
from positronic.policies.trainable import PolicyTrainable
from positronic.training.batches import BatchMaker, SampleOrder
from positronic.training.checkpoints import list_checkpoints
from positronic.training.device import to_device
from positronic.training.trainable import PolicySpec
from positronic.vendors import registry
from positronic.vendors.openpi import native
from positronic.vendors.openpi.lora import add_adapters
from positronic.vendors.openpi.loss import masked_loss
from positronic.vendors.openpi.norm_stats import delta_mask

torch.set_num_threads(1)  # these tests share their cores

SIDE, LEFT = "observation.images.side", "observation.images.left"
LORA, FULL = "pi05_positronic_lowmem", "pi05_positronic"
A_CHUNK = (50, 8)


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
def model(openpi_experiments):
    return registry.load_model("openpi", list_checkpoints(openpi_experiments[LORA])[-1].path, "cpu")


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


def test_a_masked_camera_changes_nothing(dataset, openpi_noise):
    """So one that is missing is left out, which costs nothing."""
    chunks = []
    for empty in (0, 1):
        torch.manual_seed(0)
        made = native.make_trainable(spec(dataset, f"vendor.policy.empty_cameras={empty}"))
        seen = made._parts.before(batch_of(made._parts.steps, to_device(one_of_each(dataset), "cpu")))
        images, masks = made.module._preprocess_images(seen)
        assert (len(images), [bool(mask.all()) for mask in masks]) == (2 + empty, [True, True, False][: 2 + empty])
        chunks.append(made.module.predict_action_chunk(seen, noise=torch.from_numpy(openpi_noise(0))[None]))
    torch.testing.assert_close(chunks[0], chunks[1], rtol=0, atol=1e-5)


def one_of_each(dataset):
    """A batch of one, as columns."""
    images = np.random.default_rng(0).integers(0, 256, (2, 1, 56, 56, 3)).astype(np.uint8)
    state = dataset.vectors["observation.state"][:1].copy()
    return {SIDE: images[0], LEFT: images[1], "observation.state": state, "prompt": ["Stack."]}


def test_a_batch_of_robots_is_answered_as_each_alone(model, openpi_observations, openpi_noise):
    """Four states, four prompts, each robot with its own noise."""
    noise = [openpi_noise(number) for number in range(4)]
    together = model.predict(openpi_observations, noise)
    alone = [model.predict([seen], [start])[0] for seen, start in zip(openpi_observations, noise, strict=True)]
    assert model.noise_shape == (50, 32)
    assert together[0].shape == A_CHUNK
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-6)
    assert not np.allclose(model.predict(openpi_observations[:1], [openpi_noise(9)])[0], together[0], atol=1e-3)


def test_an_instruction_that_would_be_cut_is_refused(model, openpi_observations):
    """The end of its prompt is the state. As many words as fit are answered."""
    seen = openpi_observations[0]
    words = next(n for n in range(200) if _tokens(model, seen | {"prompt": "cube " * (n + 1)}).all())
    assert np.isfinite(model.predict([seen | {"prompt": "cube " * words}])[0]).all()
    for more in (2, 60):
        with pytest.raises(PositronicError, match=r"The instruction is too long: .* the 96 tokens that this policy"):
            model.predict([openpi_observations[1], seen | {"prompt": "cube " * (words + more)}])


def _tokens(model, seen):
    """The mask of the prompt's tokens."""
    batch = {"observation.state": torch.from_numpy(seen["observation.state"])[None], "task": [seen["prompt"]]}
    return model._parts.before(batch)["observation.language.attention_mask"]


def test_robots_that_ask_at_once_get_their_own_chunks(model, openpi_observations, openpi_noise):
    """Each is added to the state that it was asked for, whoever asks in between."""
    noise = [openpi_noise(number) for number in range(4)]
    alone = [model.predict([seen], [start])[0] for seen, start in zip(openpi_observations, noise, strict=True)]
    asked = [number % 4 for number in range(16)]
    with ThreadPoolExecutor(4) as pool:
        chunks = pool.map(lambda number: model.predict([openpi_observations[number]], [noise[number]])[0], asked)
        for number, chunk in zip(asked, chunks, strict=True):
            np.testing.assert_array_equal(chunk, alone[number])


def test_a_prompt_is_read(model, openpi_observations, openpi_noise):
    """Another instruction, another chunk."""
    noise, seen = [openpi_noise(0)], openpi_observations[1]
    other = seen | {"prompt": "Pick up the green cube."}
    assert not np.array_equal(model.predict([seen], noise)[0], model.predict([other], noise)[0])


def test_a_base_of_another_codec_or_horizon_is_refused(openpi_experiments, dataset):
    """With both sides."""
    base = list_checkpoints(openpi_experiments[FULL])[-1].path
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


def test_a_base_is_looked_at_before_all_else(dataset, tmp_path):
    """Before a tokenizer is fetched for it, and a network of billions is built."""
    with pytest.raises(PositronicError, match=r"vendor\.base=.*: there is no model\.safetensors"):
        native.make_trainable(spec(dataset, toy=False, base=tmp_path))


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
