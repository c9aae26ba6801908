"""Text is not grammar: what is typed for a text parameter arrives as it was typed, in every way of composing."""

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import create_config_search_path
from hydra.types import RunMode
from omegaconf import OmegaConf

import positronic
from positronic import overrides
from positronic.composition import CONFIG_NAME, Loader
from positronic.config import CONF, typed
from positronic.errors import PositronicError

TEXTS = [
    *(
        "pick the cube, then stop",
        "true",
        "null ",
        "1e3",
        "007",
        "~/x",
        " ",
        "",
        "拿起红色方块",
        "a=b",
        "=x",
        "a: b",
        "$x",
        "50 %",
    ),
    *('"quoted"', "'quoted'", "it's", 'say "stop', "[red] cube", "[a,b]", "{a: b}", "choice(", "back\\slash", "end\\"),
    *(
        "two\nlines",
        "tab\there ",
        " both ends ",
        "${",
        "cost ${5",
        "\\",
        "'",
        "\\'",
        "a,",
        ",",
        "#1",
        "x@y",
        "range(1,3)",
    ),
]


def loader():
    return Loader(create_config_search_path(str(CONF)))


def jobs(*typed_overrides):
    """The typed configs of a multirun's jobs, by the way that Hydra's sweeper and launchers go."""
    own = loader()
    master = own.load_configuration(CONFIG_NAME, ["stage=convert", *typed_overrides], RunMode.MULTIRUN)
    parsed = overrides.parse(OmegaConf.to_container(master.hydra.overrides.task, resolve=False))
    (batch,) = BasicSweeper.split_arguments(parsed, None)
    return [typed(own.load_sweep_config(master, list(job))) for job in batch]


def test_a_text_arrives_as_it_was_typed():
    """Twice through Hydra's grammar, as a multirun's job or a submitted one goes."""
    for text in TEXTS:
        (override,) = overrides.in_grammar([f"task={text}"], multirun=True)
        (parsed,) = overrides.parse([override])
        (again,) = overrides.parse([f"task={parsed.get_value_element_as_str()}"])
        assert parsed.value() == again.value() == text.replace("${", r"\${")
        assert overrides.as_typed(again) == f"task={text}".replace("${", r"\${")


@pytest.mark.parametrize("text", ["pick the cube, then stop", "true", "cost ${5 \\ it's", "two\nlines "])
def test_a_run_and_a_job_of_a_multirun_have_the_same_text(text):
    """The whole way, references included."""
    assert positronic.compose(["stage=convert", f"task={text}"]).task == text
    assert [job.task for job in jobs(f"task={text}")] == [text]


def test_a_list_of_texts_is_swept():
    """As JSON, or by Hydra's function; numbers and choices keep Hydra's commas."""
    assert [job.task for job in jobs('task=["a, b","true"]')] == ["a, b", "true"]
    assert [job.task for job in jobs("task=choice('a, b',c)", "fps=5,10")] == ["a, b", "a, b", "c", "c"]


def test_a_list_of_texts_outside_a_multirun_is_a_text():
    """One run has one task."""
    assert positronic.compose(["stage=convert", 'task=["a","b"]']).task == '["a","b"]'


def test_null_is_none_where_none_is_possible_and_a_word_elsewhere():
    """``task: str | None``; ``exp_name: str``."""
    assert positronic.compose(["stage=convert", "task=null"]).task is None
    assert positronic.compose(["stage=train", "exp_name=null"]).exp_name == "null"


def test_a_reference_in_a_text_is_resolved(monkeypatch):
    """To another parameter, and to the environment, whose text is taken as it is."""
    monkeypatch.setenv("TASK", "null, true")
    config = positronic.compose(["stage=convert", "task=${oc.env:TASK} ${fps}", "fps=5"])
    assert config.task == "null, true 5"


def test_a_mapping_s_text_is_text_too():
    """Of an alias, whose name is the user's."""
    config = positronic.compose(["stage=convert", "dataset.aliases.grip=1e3,true"])
    assert config.dataset.aliases == {"grip": "1e3,true"}


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("policy.token=${oc.env:NOT_SET_HERE}", "the environment variable NOT_SET_HERE is not set. Type export"),
        ("output_dir=x/${driver.taks}", "it refers to driver.taks, and there is no such parameter. Did you mean"),
        ("output_dir=${ev:HOME}", "there is no reference of the kind 'ev'"),
        ("output_dir=${a b}", "expected ${<key>} or ${oc.env:<NAME>} inside the braces"),
    ],
)
def test_a_reference_that_leads_nowhere_is_a_sentence(monkeypatch, typed, said):
    """At composition, before anything runs."""
    monkeypatch.delenv("NOT_SET_HERE", raising=False)
    with pytest.raises(PositronicError) as refusal:
        positronic.compose(["stage=infer", typed])
    assert said in str(refusal.value)
