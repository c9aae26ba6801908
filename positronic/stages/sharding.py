"""stage=convert shards=...: a bake in parts, by hand or as jobs of a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from positronic import keys
from positronic.cluster.record import Task
from positronic.errors import PositronicError
from positronic.storage import is_remote
from positronic.utils.command_line import again

if TYPE_CHECKING:
    from positronic.bake.one_shard import ShardReport
    from positronic.bake.shards import Shards
    from positronic.stages.convert import Convert

JOIN = "join"


def shards_of(config: Convert) -> Shards | None:
    """Where the shards of this bake lie; None for a bake in one piece.

    Raises PositronicError for a place that is not a folder which several machines see.
    """
    if config.shards is None:
        return None
    from positronic.bake.shards import Shards, shards_path
    from positronic.storage import local_path

    for name, place in (("output_dir", config.output_dir), ("shards_dir", config.shards_dir)):
        if place is not None and is_remote(place) and (config.shards_dir is None or name == "shards_dir"):
            raise PositronicError(
                f"{name}={place}: shards lie in a folder that all machines see, not in a bucket. Type "
                "shards_dir=<folder>; the joined dataset may well go to a bucket."
            )
    folder = shards_path(config.output_dir) if config.shards_dir is None else local_path(config.shards_dir)
    return Shards(folder, config.shards)


def run_shard(config: Convert) -> ShardReport:
    """Bake the one shard that the config names, with a progress bar and a table at the end, and say what to type next.

    Raises PositronicError when it names none, and as ``bake.one_shard.bake_shard`` does.
    """
    from rich.console import Console

    from positronic.bake.one_shard import bake_shard
    from positronic.bake.progress import Bar
    from positronic.stages.convert import prepare
    from positronic.utils.provenance import provenance

    shards, console = shards_of(config), Console(stderr=True)
    if config.shard is None:
        one, all_of_them = again("shard=1"), again("join=true")
        raise PositronicError(
            f"shards={config.shards} is a bake in parts. Add +cluster=slurm for one job each, or type each of them:\n"
            f"  {one}\nup to shard={config.shards}, in any order and on any machine, and then:\n  {all_of_them}"
        )
    dataset, recipe, options = prepare(config, console)
    with Bar(console) as progress:
        place = _free_place(config)
        report = bake_shard(dataset, recipe, place, options, provenance(), shards, config.shard, progress)
    Console().print(report)
    print(_next_lines(shards))
    return report


def tasks_of(
    config: Convert, arguments: Sequence[str], flags: Sequence[str] = (), before: str = "", check: bool = True
) -> list[Task]:
    """The jobs of a bake in shards: one for each shard that is not complete, and one after them that joins all.

    ``arguments``: what was typed for the whole bake. So the same command again submits those that failed, and the
    join. ``flags``: what stands behind them. ``before``: how the names of the tasks begin. Empty for a bake in one
    piece, or of one shard. With ``check``, raises PositronicError for what every job would refuse.
    """
    shards = shards_of(config)
    if shards is None or config.shard is not None or config.join:
        return []
    if check:
        _require_possible(config, shards)
    width = len(str(shards.count))
    bakes = [
        Task(f"{before}shard_{number:0{width}}", (*arguments, f"shard={number}", *flags), {"shard": str(number)})
        for number in shards.missing()
    ]
    after = tuple(task.name for task in bakes)
    return [*bakes, Task(f"{before}{JOIN}", (*arguments, "join=true", *flags), {JOIN: "true"}, after)]


def _require_possible(config: Convert, shards: Shards) -> None:
    from rich.console import Console

    from positronic.bake.convert import plan, require_bakeable
    from positronic.stages.convert import prepare
    from positronic.utils.provenance import provenance

    dataset, recipe, options = prepare(config, Console(stderr=True))
    shards.require_several(len(dataset))
    require_bakeable(dataset, recipe, _free_place(config))
    shards.require_ours(dataset, plan(dataset, recipe, options, provenance()), options.robot_is_told)


def _free_place(config: Convert) -> str | None:
    """``output_dir`` on this machine; None for a bucket, where there must be no dataset yet."""
    from positronic.storage.folder import folder

    if not is_remote(config.output_dir):
        return config.output_dir
    place = folder(config.output_dir, config.storage)
    if place.read_bytes(keys.MANIFEST_FILE) is not None:
        raise PositronicError(f"{place} exists already. Remove it, or write elsewhere with output_dir=...")
    return None


def _next_lines(shards: Shards) -> str:
    from positronic.bake.shards import NOT_OF_A_SHARD

    missing = shards.missing()
    command = again(f"shard={missing[0]}" if missing else "join=true", without=NOT_OF_A_SHARD)
    return f"  shards:  {shards.count - len(missing)} of {shards.count} are complete\n  next:    {command}"
