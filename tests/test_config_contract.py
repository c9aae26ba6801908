"""Hydra's private names that composition.py uses are there, and mean what it thinks they mean."""

import inspect
from importlib import metadata

import hydra._internal.hydra
import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.types import Override
from hydra.errors import MissingConfigException
from hydra.version import VersionBase

SIGNATURES = {
    ConfigLoaderImpl.load_configuration: "self config_name overrides run_mode from_shell validate_sweep_overrides",
    ConfigLoaderImpl._compose_config_from_defaults_list: "self defaults repo",
    ConfigLoaderImpl.get_group_options: "self group_name results_filter config_name overrides",
    ConfigLoaderImpl.compute_defaults_list: "self config_name overrides run_mode",
    create_config_search_path: "search_path_dir",
    get_args_parser: "",
    MissingConfigException.__init__: "self message missing_cfg_file options",
    Override.sweep_string_iterator: "self",
}


def test_hydra_is_the_version_that_was_read():
    """Pinned exactly; after an upgrade, read composition.py against it and change this line."""
    assert metadata.version("hydra-core") == "1.3.8"


@pytest.mark.parametrize("function", SIGNATURES, ids=lambda function: function.__qualname__)
def test_a_function_takes_what_we_give_it(function):
    """Names and order of the parameters."""
    assert list(inspect.signature(function).parameters) == SIGNATURES[function].split()


def test_hydra_main_makes_its_loader_by_the_name_that_we_replace():
    """``install()`` puts ours there."""
    assert hydra._internal.hydra.ConfigLoaderImpl is ConfigLoaderImpl
    assert "ConfigLoaderImpl(" in inspect.getsource(hydra._internal.hydra.Hydra.create_main_hydra2)


def test_files_are_merged_before_the_command_line_in_one_method_call():
    """A preset's section is folded between the two."""
    source = inspect.getsource(ConfigLoaderImpl._load_configuration_impl)
    assert source.index("self._compose_config_from_defaults_list(") < source.index("_apply_overrides_to_config(")


def test_a_job_of_a_multirun_is_composed_like_a_run():
    """So that its refusals are the same."""
    assert "self.load_configuration(" in inspect.getsource(ConfigLoaderImpl.load_sweep_config)


def test_a_merged_file_says_where_it_comes_from():
    """The stage's schema is found by its path."""
    assert "config_path" in ResultDefault.__dataclass_fields__


def test_the_compatibility_level_can_be_put_back():
    """compose() leaves it as it was."""
    assert hasattr(VersionBase.instance(), "version_base")
