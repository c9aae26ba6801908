"""compose(): what a command line means, as typed objects."""

from dataclasses import asdict

import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

import positronic
from positronic.codecs.config import FROM_CHECKPOINT
from positronic.config import CONF
from positronic.errors import PositronicError
from positronic.hardware.replay.config import ReplayConfig
from positronic.hardware.sim.config import SimConfig
from positronic.rollout.config import LocalPolicyConfig, RemotePolicyConfig
from positronic.stages.convert import Convert
from positronic.stages.serve import Serve
from positronic.stages.train import Train


def test_a_stage_composes_to_its_own_dataclass_and_its_parts_to_theirs():
    """The chosen files decide the types, of a part with several dataclasses too."""
    config = positronic.compose(
        ["stage=infer", "hardware=replay", "hardware.path=x", "policy=local", "policy.checkpoints_dir=y"]
    )
    assert isinstance(config.hardware, ReplayConfig)
    assert isinstance(config.policy, LocalPolicyConfig)
    assert not hasattr(config, "hydra")


def test_the_train_command_of_the_readme_is_complete_as_it_stands():
    """Nothing but the stage has to be typed: paths and names follow from root, dataset, vendor and codec."""
    config = positronic.compose(["stage=train", "paths.root=/r"])
    assert isinstance(config, Train)
    assert isinstance(config.hardware, SimConfig)
    assert isinstance(config.policy, RemotePolicyConfig)
    assert config.input_path == "/r/baked/demo/lerobot/ee/v3.0"
    assert (config.output_dir, config.exp_name) == ("/r/checkpoints/lerobot", "lerobot_ee")


def test_what_convert_writes_is_what_train_reads():
    """Both stages derive the baked dataset's folder from the same choices."""
    choices = ["paths.root=/r", "dataset.path=/somewhere/my_task", "codec=joints_traj"]
    baked = positronic.compose(["stage=convert", *choices])
    assert isinstance(baked, Convert)
    assert baked.output_dir == "/r/baked/my_task/lerobot/joints_traj/v3.0"
    assert positronic.compose(["stage=train", *choices]).input_path == baked.output_dir


@pytest.mark.parametrize("path", ["/data/my_task", "/data/my_task/", "s3://bucket/my_task/", "~/my_task"])
def test_a_dataset_is_named_after_its_folder(path):
    """Of local paths and URIs, with or without a slash at the end."""
    local = OmegaConf.load(CONF / "dataset" / "local.yaml")
    local.path = path
    assert OmegaConf.create({"dataset": local}).dataset.name == "my_task"


def test_a_tilde_is_the_home_folder(monkeypatch):
    """No shell expands ``dataset.path=~/x``, so we do, typed and from YAML or the environment alike."""
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("POSITRONIC_ROOT", "~/robots")
    config = positronic.compose(["stage=convert", "dataset.path=~/x"])
    assert config.dataset.path == "/home/ada/x"
    assert config.paths.root == "/home/ada/robots"


def test_an_older_codec_name_stores_its_canonical_one():
    """Artefacts never carry an alias."""
    config = positronic.compose(["stage=train", "codec=eepose_absolute"])
    canonical = positronic.compose(["stage=train", "codec=ee"])
    assert asdict(config) == asdict(canonical)


def test_serve_takes_vendor_and_codec_from_the_checkpoint():
    """Nothing is typed twice: an experiment's folder is all that serve needs."""
    config = positronic.compose(["stage=serve", "checkpoints_dir=x"])
    assert isinstance(config, Serve)
    assert (config.vendor.name, config.codec.name) == (FROM_CHECKPOINT, FROM_CHECKPOINT)


def test_a_typed_codec_or_vendor_wins_over_the_checkpoint_s():
    """What is typed reaches the stage, which compares it with the checkpoint."""
    config = positronic.compose(["stage=serve", "checkpoints_dir=x", "vendor=lerobot", "codec=joints"])
    assert (config.vendor.name, config.codec.name) == ("lerobot", "joints")
    assert config.modality.columns["action"] == ["action.ee_pose", "action.grip"]


def test_a_vendor_library_s_own_field_needs_no_plus():
    """vendor.policy is the one mapping whose keys are not ours."""
    assert positronic.compose(["stage=train", "vendor.policy.kl_weight=3"]).vendor.policy["kl_weight"] == 3


def test_a_preset_s_section_reaches_its_stage_only():
    """``stages.train`` is folded into train, and collect does not see it."""
    train = positronic.compose(["stage=train", "+experiment=quickstart"])
    collect = positronic.compose(["stage=collect", "+experiment=quickstart"])
    assert (train.num_train_steps, train.exp_name, train.stages) == (1400, "quickstart", {})
    assert (collect.num_episodes, collect.seed, collect.hardware.image_size) == (400, 100000, [64, 64])


def test_the_command_line_wins_over_a_preset_s_section():
    """The section is a default, whatever the order of the arguments."""
    config = positronic.compose(["num_train_steps=7", "stage=train", "+experiment=quickstart"])
    assert (config.num_train_steps, config.batch_size) == (7, 32)


def test_presets_combine_and_the_later_wins():
    """+debug=tiny shrinks what the experiment before it set."""
    config = positronic.compose(["stage=train", "+experiment=quickstart", "+debug=tiny"])
    assert (config.num_train_steps, config.lr_schedule) == (4, "cosine")
    assert (config.vendor.policy["dim_model"], config.vendor.policy["use_vae"]) == (32, False)


@pytest.mark.parametrize("preset", ["tiny", "overfit"])
@pytest.mark.parametrize("vendor", ["lerobot", "gr00t", "openpi"])
def test_a_debug_preset_s_server_finds_its_checkpoint(preset, vendor):
    """Whoever trained it, also if serving leaves it to the checkpoint who did."""
    fixed = [f"+debug={preset}", f"vendor={vendor}"]
    train, serve = (positronic.compose([f"stage={stage}", *fixed]) for stage in ("train", "serve"))
    assert serve.checkpoints_dir == f"{train.output_dir}/{train.exp_name}"
    if vendor == "lerobot":
        assert positronic.compose(["stage=serve", fixed[0]]).checkpoints_dir == serve.checkpoints_dir


def test_the_quickstart_s_server_and_client_find_each_other_and_its_checkpoint():
    """What train writes is what serve reads; the server is local, the seeds are unseen."""
    train, serve, infer = (
        positronic.compose([f"stage={stage}", "+experiment=quickstart", "paths.root=/r"])
        for stage in ("train", "serve", "infer")
    )
    assert serve.checkpoints_dir == f"{train.output_dir}/{train.exp_name}"
    assert (serve.server.host, serve.server.port) == (infer.policy.host, infer.policy.port)
    assert (infer.seed, infer.driver.num_episodes, infer.driver.simulation_time) == (1000, 100, 14.0)


def test_the_quickstart_plays_half_of_each_chunk():
    """8 of 16 steps at 15 Hz, about the half second of open loop that works best."""
    config = positronic.compose(["stage=train", "+experiment=quickstart"])
    played = [k for k in range(config.vendor.policy["chunk_size"]) if k / 15 < config.modality.action_horizon_sec]
    assert len(played) == 8


def test_compose_works_in_any_folder_any_number_of_times(monkeypatch, tmp_path):
    """The project's conf/ is found from the package, and Hydra's global state is left alone."""
    monkeypatch.chdir(tmp_path)
    first, second = (positronic.compose(["stage=train", "exp_name=a"]) for _ in range(2))
    assert first == second
    assert not GlobalHydra.instance().is_initialized()
    assert list(tmp_path.iterdir()) == []


def own_file(folder, name, *lines):
    path = folder / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def test_own_files_stand_beside_those_of_the_project(tmp_path):
    """A dataset of one's own goes by its name, and builds on ours."""
    own_file(tmp_path, "dataset/mine", "defaults:", "  - local", "  - _self_", "path: /mine")
    assert positronic.compose(["stage=convert", "dataset=mine"], conf_dir=tmp_path).dataset.path == "/mine"
    with pytest.raises(PositronicError, match="for dataset: demo, lerobot, local, mine,.*Did you mean 'mine'"):
        positronic.compose(["stage=convert", "dataset=mime"], conf_dir=tmp_path)


def test_an_own_file_with_a_name_of_ours_is_refused(tmp_path):
    """Hydra would read ours, and say nothing."""
    own_file(tmp_path, "codec/ee", "name: ee")
    with pytest.raises(PositronicError, match=r"codec/ee.yaml has the name of a file of Positronic.*another name"):
        positronic.compose(["stage=convert"], conf_dir=tmp_path)


def test_a_folder_of_own_files_that_is_not_there_is_refused(tmp_path):
    """By its name."""
    with pytest.raises(PositronicError, match="conf_dir=.*nowhere: there is no such folder"):
        positronic.compose(["stage=convert"], conf_dir=tmp_path / "nowhere")


@pytest.mark.parametrize("path", ["/data/Übung", "/data/cups (1)", "/a=b/c", "/it's/here", "/two words", "a:b", "/1e3"])
def test_a_path_may_hold_any_character(path):
    """Hydra's grammar knows letters of ASCII; the rest is quoted for it. Datasets are named after their folder."""
    config = positronic.compose(["stage=convert", "dataset=local", f"dataset.path={path}", f"paths.root={path}/root"])
    name = path.rpartition("/")[2]
    assert (config.dataset.path, config.dataset.name) == (path, name)
    assert config.output_dir == f"{path}/root/baked/{name}/lerobot/ee/v3.0"


def test_what_an_arm_lacks_is_null_on_the_command_line():
    """A gripper, poses, limits: the fields of an arm are looked at one by one, as any others."""
    nulls = [f"embodiment.arms.arm.{name}=null" for name in ("gripper", "ee_frame", "lower", "upper")]
    arm = positronic.compose(["stage=convert", "codec=joints_cmd", "dataset.path=x", "embodiment=franka", *nulls])
    assert [getattr(arm.embodiment.arms["arm"], name) for name in ("gripper", "ee_frame", "lower")] == [None] * 3
    with pytest.raises(PositronicError, match=r"embodiment\.arms\.arm\.joints=null"):
        positronic.compose(["stage=convert", "dataset.path=x", "embodiment=franka", "embodiment.arms.arm.joints=null"])


def test_a_type_of_policy_brings_its_own_values():
    """Typed ones win; the fields of another type mean nothing to it. Presets may say things for several types."""
    typed = ["stage=train", "vendor.policy.type=diffusion", "vendor.policy.horizon=16", "+debug=tiny"]
    policy = positronic.compose(typed).vendor.policy
    assert (policy["type"], policy["horizon"], policy["n_obs_steps"]) == ("diffusion", 16, 1)
    assert policy["down_dims"] == [16, 32]
    assert "dim_model" not in policy
    with pytest.raises(PositronicError, match=r"plays 15 steps at 15 Hz, but vendor\.policy\.horizon=8"):
        positronic.compose(["stage=train", "vendor.policy.type=diffusion", "vendor.policy.horizon=8"])
    policy = positronic.compose(["stage=train", "vendor.policy.type=xvla"]).vendor.policy
    assert policy == {"type": "xvla", "action_mode": "auto"}
    assert positronic.compose(["stage=train"]).vendor.policy["dim_model"] == 512
