"""The shape of the house: who may import whom, where keys are written, how long things are."""

import ast
import sys
from pathlib import Path

from positronic import keys

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "positronic"
MODULES = sorted(PACKAGE.rglob("*.py"))
TEXTS = {path: path.read_text() for path in MODULES}
TREES = {path: ast.parse(text) for path, text in TEXTS.items()}

# From the ground up; rooms in one row stand side by side. A room imports rows below its own, and itself.
ROWS = [
    {"keys", "errors"},
    {"utils"},
    {"geometry"},
    {"commands", "conventions", "freshness"},
    {"embodiments"},
    {"storage"},
    {"raw"},
    {"importing", "recording"},
    {"codecs"},
    {"bake"},
    {"training"},
    {"upstream"},
    {"policies"},
    {"vendors"},
    {"serving"},
    {"client"},
    {"hardware"},
    {"rollout"},
    {"cluster"},
    {"stages"},
    {"schemas"},
    {"overrides"},
    {"reads", "refusals"},
    {"values", "chains"},
    {"composition"},
    {"config"},
    {"sweeps"},
    {"api"},
    {"__init__"},
]
HEIGHT = {room: height for height, rooms in enumerate(ROWS) for room in rooms}
# Narrower than the rows: what these rooms may import at all.
ONLY = {
    "keys": set(),
    "client": {"keys", "errors", "geometry", "commands", "utils"},
    "hardware": {"keys", "errors", "utils", "geometry", "commands", "conventions", "embodiments", "storage", "raw"},
}
LATE = {"torch", "lerobot", "mujoco", "litserve", "av", "pyarrow", "matplotlib", "wandb", "h5py", "rosbags", "submitit"}
MAX_FUNCTION, MAX_FILE = 60, 450


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree):
    """Dotted names of every module imported anywhere in the tree."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_imported(tree):
    dotted = [name.split(".") for name in imports(tree)]
    return {parts[1] for parts in dotted if parts[0] == "positronic" and len(parts) > 1 and parts[1] in HEIGHT}


def at_import_time(tree):
    """The tree without what runs later or never: function bodies and TYPE_CHECKING blocks."""
    kept = []
    for node in tree.body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            kept.append(node)
    return ast.Module(kept, [])


def literals(tree):
    """Every text in the tree that is no docstring."""
    bodies = [n.body for n in ast.walk(tree) if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef)]
    docs = {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}
    return {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and id(n) not in docs} - {None, ...}


def functions(tree):
    return [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


def offenders(check, paths=MODULES):
    """``{file: what check found there}`` of the files where it found something."""
    found = {str(path.relative_to(ROOT)): check(path, TREES[path]) for path in paths}
    return {name: fault for name, fault in found.items() if fault}


def test_every_room_has_a_place():
    """A new room is put into the order before it is built."""
    assert {room_of(path) for path in MODULES} <= set(HEIGHT)


def test_a_room_imports_only_rooms_below_it():
    """Lower rooms never import higher ones, and some only what they are allowed."""

    def above(path, tree):
        room, others = room_of(path), rooms_imported(tree) - {room_of(path)}
        return {r for r in others if HEIGHT[r] >= HEIGHT[room] or r not in ONLY.get(room, HEIGHT)}

    assert offenders(above, [path for path in MODULES if room_of(path) != "__init__"]) == {}


def test_no_vendor_imports_another():
    """What two vendors share is in a room below."""
    vendors = [path.name for path in (PACKAGE / "vendors").iterdir() if path.is_dir()]

    def strangers(path, tree):
        others = {f"positronic.vendors.{vendor}" for vendor in vendors if vendor != path.parent.name}
        return others & {".".join(name.split(".")[:3]) for name in imports(tree)}

    assert offenders(strangers, [path for path in MODULES if path.parent.parent.name == "vendors"]) == {}


def test_lerobot_is_touched_in_two_rooms_only():
    """So that its changes stop in policies/ and vendors/."""
    users = {room_of(path) for path in MODULES for name in imports(TREES[path]) if name.split(".")[0] == "lerobot"}
    assert users <= {"policies", "vendors"}


def test_the_client_needs_no_more_than_a_robot_has():
    """numpy, msgpack, websockets; pillow where it is installed."""

    def foreign(path, tree):
        tops = {name.split(".")[0] for name in imports(tree)} - set(sys.stdlib_module_names)
        return tops - {"positronic", "numpy", "msgpack", "websockets", "PIL"}

    rooms = ("client", "keys", "errors", "geometry", "commands")
    assert offenders(foreign, [path for path in MODULES if room_of(path) in rooms]) == {}


def test_stages_and_configs_import_light():
    """What is heavy is imported where it is needed, inside the stage that runs."""
    paths = [path for path in MODULES if room_of(path) == "stages" or path.name == "config.py"]
    assert offenders(lambda _, tree: LATE & {n.split(".")[0] for n in imports(at_import_time(tree))}, paths) == {}


def test_keys_are_written_once():
    """A raw, wire or artefact key that is no plain word stands in keys.py and nowhere else."""
    constants = {value for name, value in vars(keys).items() if name.isupper() and isinstance(value, str)}
    telling = {value for value in constants if set(value) & set("._/") and not value.endswith(".")}
    paths = [path for path in MODULES if room_of(path) not in ("keys", "refusals")]  # refusals: other tools' names
    assert offenders(lambda _, tree: literals(tree) & telling, paths) == {}


def test_functions_and_files_are_short():
    """No function over 60 lines, no file over 450."""
    long = {f"{path.name}:{f.name}": f.end_lineno - f.lineno + 1 for path in MODULES for f in functions(TREES[path])}
    assert {name: lines for name, lines in long.items() if lines > MAX_FUNCTION} == {}
    assert offenders(lambda path, _: len(TEXTS[path].splitlines()) > MAX_FILE) == {}


def test_nothing_evaluates_text():
    """No eval, no exec: a config is data."""

    def evaluations(_, tree):
        calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
        return {func.id for func in calls if isinstance(func, ast.Name)} & {"eval", "exec"}

    assert offenders(evaluations) == {}


def test_modules_say_what_they_are_and_public_functions_what_they_return():
    """One sentence and types, everywhere."""
    assert offenders(lambda _, tree: not ast.get_docstring(tree)) == {}
    assert offenders(lambda _, tree: [f.name for f in functions(tree) if not f.returns and f.name[0] != "_"]) == {}


def test_run_py_composes_and_hands_over():
    """Compose, typed config, one stage function: nothing else."""
    assert len((ROOT / "run.py").read_text().splitlines()) <= 30


def test_colours_are_converted_in_one_place():
    """FFmpeg's own ways to RGB and back are biased; they are called, with the right settings, in utils/colour.py."""
    ways = {"reformat", "to_ndarray", "to_image", "from_ndarray", "VideoReformatter"}

    def conversions(_, tree):
        return ways & {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}

    paths = [path for path in MODULES if path.name != "colour.py" and "av" in set(imports(TREES[path]))]
    assert offenders(conversions, paths) == {}
