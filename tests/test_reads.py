"""What is typed takes effect or is refused: every key of every stage."""

import ast
from functools import cache
from pathlib import Path

import pytest

import positronic
from positronic import overrides, reads
from positronic.composition import compose_config
from positronic.config import CONF
from positronic.errors import PositronicError
from positronic.schemas import STAGES, fields_of, module_of, own_parameters, parameters, raw_values

PACKAGE = Path(positronic.__file__).parent
NEEDED = {"serve": ["checkpoints_dir=x"], "import": ["source=hdf5", "path=x"], "compare": ["rollouts=[x,y]"]}
# Parts whose choice decides which keys there are: each choice is walked too.
VARIANTS = {
    "infer": (
        ["hardware=replay", "hardware.path=x"],
        ["policy=local", "policy.checkpoints_dir=x"],
        ["policy=scripted"],
    ),
    "train": (["tracker=wandb"],),
    "convert": (["vendor=openpi"], ["vendor=gr00t"], ["append=true"], ["shards=2"]),
    "stats": (["report=true"], ["vendor=openpi", "vendor.backend=upstream"]),
}
VENDORS = ("vendors/gr00t", "vendors/lerobot", "vendors/openpi")
TASKS = ("hardware/sim/tasks",)
BY_NAME = {
    "train": VENDORS,
    "convert": VENDORS,
    "stats": VENDORS,
    "collect": TASKS,
    "infer": TASKS,
}  # folders whose modules a stage imports by a dotted name
WALKS = [(stage, ()) for stage in STAGES] + [(s, tuple(more)) for s, mores in VARIANTS.items() for more in mores]


@cache
def composed(stage, more=()):
    return compose_config([f"stage={stage}", *NEEDED.get(stage, []), *more], CONF)


def refused(cfg, key):
    """The sentence that refuses ``key`` when it is typed; None when it is taken."""
    try:
        reads.check_reads(cfg, overrides.parse([f"{key}=1"]))
    except PositronicError as error:
        return str(error)
    return None


@cache
def reached(stage):
    """Every module of ours that a stage imports, at once or late, but for the configs and what composes them."""
    by_name = (path for folder in BY_NAME.get(stage, ()) for path in (PACKAGE / folder).glob("*.py"))
    ahead, seen = [PACKAGE / "stages" / f"{module_of(stage)}.py", *by_name], set()
    while ahead:
        path = ahead.pop()
        if path in seen or not path.exists() or (path.parent == PACKAGE and path.stem not in ("keys", "geometry")):
            continue
        seen.add(path)
        for node in ast.walk(ast.parse(path.read_text())):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            if module and module.startswith("positronic"):
                below = PACKAGE.joinpath(*module.split(".")[1:])
                ahead += [below.with_suffix(".py"), below / "__init__.py"]
                ahead += [(below / alias.name).with_suffix(".py") for alias in node.names]
    return {path for path in seen if path.name != "config.py" or path.parent.name == "storage"}


@cache
def names_read(stage):
    """Attributes that a stage's modules read, and fields of their own dataclasses, which are filled by name."""
    found = set()
    for path in reached(stage):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                found.add(node.attr)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and path.parent.name != "stages":
                found.add(node.target.id)
    return found


NAMED_BY_USERS = ("modality.columns", "modality.cameras", "embodiment.arms", "embodiment.cameras", "hardware.scoring")


@pytest.mark.parametrize(("stage", "more"), WALKS, ids=str)
def test_every_key_of_every_stage_takes_effect_or_is_refused(stage, more):
    """A key that is taken is one that the stage's own modules read; each other one is refused by its name."""
    cfg = composed(stage, more)
    leaves = raw_values(cfg)
    unread = []
    for key in leaves:
        if key in ("stage", "profile", "stages") or key.startswith("vendor.policy."):
            continue
        key = next((each for each in NAMED_BY_USERS if key.startswith(f"{each}.")), key)
        sentence = refused(cfg, key)
        if sentence is not None:
            assert key in sentence
        elif key.rpartition(".")[2] not in names_read(stage) and key not in _referred(stage, leaves):
            unread.append(key)
    assert unread == []


def _referred(stage, leaves):
    """Keys whose value becomes a part of another one that the stage reads."""
    own = {key for key in leaves if key.split(".")[0] in (*own_parameters(stage), *STAGES[stage].uses)}
    return reads._with_references(own, leaves) - own


def test_every_part_is_used_by_some_stage():
    """Otherwise it could not be typed at all."""
    used = {name for schema in STAGES.values() for name in schema.uses}
    assert used >= {"hardware", "dataset", "codec", "modality", "vendor", "tracker", "server", "policy", "driver"}


@pytest.mark.parametrize("stage", STAGES)
def test_a_declared_key_exists(stage):
    """A misspelt declaration would refuse what it should take."""
    schema = STAGES[stage]
    for name in (*schema.uses, *schema.choices, *schema.ignores, *schema.null_takes, *schema.null_takes.values()):
        assert parameters([stage], name), name


def test_every_parameter_says_what_it_means():
    """In its dataclass's docstring: ``--help`` shows it."""

    def silent(schema):
        fields = {name: field for name, field in fields_of(schema).items() if name not in ("stage",)}
        return [name for name, field in fields.items() if not field.meaning and name not in parts]

    parts = set(positronic.stages.base.Parts.__dataclass_fields__) - {"profile"}
    assert {schema.__name__: silent(schema) for schema in STAGES.values() if silent(schema)} == {}


@pytest.mark.parametrize(
    ("typed", "said"),
    {
        "stage=serve checkpoints_dir=x policy.checkpoint=002000": "Here it is checkpoint: type checkpoint=002000.",
        "stage=infer server.port=9000": "It belongs to stage=serve. Here it is policy.port: type policy.port=9000.",
        "stage=serve checkpoints_dir=x modality.action_horizon_sec=0.5": "takes it from the checkpoint as it was",
        "stage=infer codec.switch_grip=true": "takes it from the checkpoint as it was trained",
        "stage=train hardware=sim_hard": "'hardware' does nothing in stage=train. It belongs to stage=collect,",
        "stage=train driver.task=x": "'driver.task' does nothing in stage=train. It belongs to stage=infer.",
        "stage=train frame_cache=disk cache_gb=4": "cache_gb counts only with frame_cache=auto or none.",
        "stage=train tracker.project=x": "tracker.project counts only with tracker=wandb.",
        "stage=stats picture=x.png": "picture counts only with report=true.",
        "stage=convert on_duplicate=skip": "on_duplicate counts only with append=true.",
        "stage=convert shard=2": "shard counts only with shards=<value>.",
        "stage=convert join=true": "join counts only with shards=<value>.",
        "stage=convert shards=2 append=true": "shards counts only with append=false.",
        "stage=convert vendor.name=gr00t": "'vendor.name' is not typed: it follows from vendor=. Type vendor=gr00t.",
        "stage=convert modality.config_name=x": "counts for vendor=openpi alone; found vendor=lerobot.",
        "stage=train dataset=phail input_path=x": "it would only help to find input_path, which is typed as well.",
    }.items(),
)
def test_what_would_do_nothing_is_refused_with_where_it_belongs(typed, said):
    """In one sentence."""
    with pytest.raises(PositronicError) as refusal:
        positronic.compose(typed.split())
    assert said in str(refusal.value)


def test_a_preset_may_say_things_for_other_stages():
    """Only what is typed is asked about."""
    assert positronic.compose(["stage=convert", "+experiment=quickstart"]).hardware.image_size == [64, 64]
