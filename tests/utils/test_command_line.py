"""Commands in messages."""

import sys

import pytest

from positronic.utils.command_line import Composed, again, command, in_python, instead, next_line, was_typed


@pytest.fixture
def typed(monkeypatch):
    """What was typed behind run.py."""
    return lambda *arguments: monkeypatch.setattr(sys, "argv", ["run.py", *arguments])


def test_the_same_command_with_more(typed):
    """Quoted for a shell where it must be."""
    typed("stage=train", "modality.image_size=[64,64]")
    assert again("resume=true") == "python run.py stage=train 'modality.image_size=[64,64]' resume=true"


def test_another_stage_takes_what_means_the_same_there(typed):
    """The codec is meant for both stages, the network and the batch size for training alone."""
    typed("stage=train", "codec=joints", "vendor.policy.dim_model=64", "vendor.backend=native", "batch_size=8")
    assert instead("convert", {"vendor": "x"}, {"output_dir": "b c"}) == (
        "python run.py stage=convert codec=joints 'output_dir=b c'"
    )


def test_without_a_command_line_the_values_are_spelt_out(monkeypatch):
    """In a notebook nothing was typed."""
    monkeypatch.setattr(sys, "argv", ["notebook"])
    assert instead("convert", {"vendor": "x"}, {}) == "python run.py stage=convert vendor=x"
    assert again("resume=true") == "python run.py ... resume=true"


def test_the_closing_line_of_a_stage_names_the_folder_that_it_made(typed):
    """What was typed about the codec is kept; where the recording lay is left out."""
    typed("stage=convert", "dataset=local", "dataset.path=rec", "codec=joints", "fps=5")
    values = {"vendor": "lerobot", "codec": "joints"}
    assert next_line("train", {"input_path": "b"}, values) == (
        "  next:    python run.py stage=train codec=joints input_path=b"
    )
    assert next_line("stats", {"input_path": "b"}) == "  next:    python run.py stage=stats input_path=b"
    typed("stage=convert", "dataset=demo")
    assert "vendor=lerobot codec=joints input_path=b" in next_line("train", {"input_path": "b"}, values)


def test_a_folder_of_own_config_files_is_named_to_every_stage(typed):
    """Without it the next stage would not find the codec."""
    typed("codec=mine", "stage=convert", "--config-dir", "my conf")
    assert next_line("train", {"input_path": "b"}, {"codec": "x"}) == (
        "  next:    python run.py stage=train codec=mine input_path=b --config-dir 'my conf'"
    )
    typed("stage=convert", "--config-dir=conf")
    assert command("stats", {}) == "python run.py stage=stats --config-dir conf"


def test_in_python_commands_are_lines_of_python(typed):
    """What compose() was given takes the place of what was typed."""
    typed("stage=infer", "codec=other")
    with in_python(Composed(("stage=train", 'exp_name="a"', "codec=joints"), "my conf")):
        assert again("resume=true") == (
            'positronic.run(positronic.compose(["stage=train", "exp_name=\\"a\\"", "codec=joints", "resume=true"], '
            'conf_dir="my conf"))'
        )
        assert next_line("stats", {"input_path": "b"}, {"vendor": "x"}) == (
            '  next:    positronic.run(positronic.compose(["stage=stats", "codec=joints", "input_path=b"], '
            'conf_dir="my conf"))'
        )
        assert was_typed("exp_name")
    assert again("seed=1") == "python run.py stage=infer codec=other seed=1"


def test_in_python_a_server_is_still_started_in_a_shell(typed):
    """It takes a process of its own."""
    typed()
    with in_python(Composed(("stage=train",), "conf")):
        assert command("serve", {"checkpoints_dir": "c d"}) == (
            "python run.py stage=serve 'checkpoints_dir=c d' --config-dir conf"
        )


def test_in_python_dots_stand_for_what_is_not_known():
    """A config that was changed, or that nobody composed."""
    with in_python(Composed(("stage=train", "codec=ee"), changed=frozenset(["seed"]))):
        assert again("resume=true") == 'positronic.run(positronic.compose([..., "resume=true"]))'
        assert instead("stats", {}, {}) == 'positronic.run(positronic.compose(["stage=stats", "codec=ee"]))'
    with in_python(Composed((), changed=frozenset(["codec"]))):
        assert instead("stats", {}, {}) == 'positronic.run(positronic.compose(["stage=stats", ...]))'


def test_of_a_vendor_s_values_none_is_for_another_stage(typed):
    """But a dataset that was baked for the vendor's own code is trained by that."""
    typed("stage=convert", "vendor=gr00t", "vendor.backend=upstream", "vendor.repo=x")
    assert instead("convert", {}, {}) == "python run.py stage=convert vendor=gr00t"
    assert next_line("train", {"input_path": "b"}, {"vendor": "x"}) == (
        "  next:    python run.py stage=train vendor=gr00t vendor.backend=upstream input_path=b"
    )
