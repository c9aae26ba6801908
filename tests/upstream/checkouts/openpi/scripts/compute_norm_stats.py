"""``python scripts/compute_norm_stats.py --config-name C [--max-frames N]``."""

import sys

import numpy as np
import openpi.shared.normalize as normalize
import openpi.training.config as _config
import openpi.training.data_loader as _data_loader
import openpi.transforms as transforms
import tyro
from openpi import standin


class RemoveStrings(transforms.DataTransformFn):
    def __call__(self, x: dict) -> dict:
        return {name: each for name, each in x.items() if not np.issubdtype(np.asarray(each).dtype, np.str_)}


def main(config_name: str, max_frames: int | None = None) -> None:
    """The batch size is the config's; what is over after the last whole batch is left out."""
    standin.start()
    config = _config.get_config(config_name)
    data_config = config.data.create(config.assets_dirs, config.model)
    if data_config.repo_id is None:
        raise ValueError("Data config must have a repo_id")
    dataset = _data_loader.create_torch_dataset(data_config, config.model.action_horizon, config.model)
    steps = [*data_config.repack_transforms.inputs, *data_config.data_transforms.inputs, RemoveStrings()]
    dataset = _data_loader.TransformedDataset(dataset, steps)
    is_cut = max_frames is not None and max_frames < len(dataset)
    batches = (max_frames if is_cut else len(dataset)) // config.batch_size
    loader = _data_loader.TorchDataLoader(
        dataset,
        config.batch_size,
        num_workers=config.num_workers,
        shuffle=is_cut,
        num_batches=batches,
    )
    stats = {name: normalize.RunningStats() for name in ("state", "actions")}
    for done, batch in enumerate(loader, 1):
        sys.stderr.write(f"\rComputing stats: {done * 100 // batches:3d}%|███ | {done}/{batches} [00:01<00:01]")
        for name, each in stats.items():
            each.update(batch[name])
    path = config.assets_dirs / data_config.repo_id
    print(f"Writing stats to: {path}")
    normalize.save(path, {name: each.get_statistics() for name, each in stats.items()})


if __name__ == "__main__":
    tyro.cli(main)
