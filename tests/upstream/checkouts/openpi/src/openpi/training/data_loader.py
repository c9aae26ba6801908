"""Batches of a dataset's samples. Worker processes are started afresh (spawn), so they import the script again."""

import logging
import multiprocessing
from collections.abc import Iterator, Sequence
from typing import Any

import lerobot.common.datasets.lerobot_dataset as lerobot_dataset
import numpy as np

import openpi.transforms as _transforms
from openpi.models import model as _model
from openpi.training import config as _config


class TransformedDataset:
    def __init__(self, dataset: Any, transforms: Sequence[_transforms.DataTransformFn]) -> None:
        self._dataset, self._transform = dataset, _transforms.compose(transforms)

    def __getitem__(self, index: int) -> dict:
        return self._transform(self._dataset[index])

    def __len__(self) -> int:
        return len(self._dataset)


def create_torch_dataset(
    data_config: _config.DataConfig, action_horizon: int, model_config: _model.BaseModelConfig
) -> Any:
    if data_config.repo_id is None:
        raise ValueError("Repo ID is not set. Cannot create dataset.")
    meta = lerobot_dataset.LeRobotDatasetMetadata(data_config.repo_id)
    seconds = [step / meta.fps for step in range(action_horizon)]
    dataset = lerobot_dataset.LeRobotDataset(
        data_config.repo_id, delta_timestamps=dict.fromkeys(data_config.action_sequence_keys, seconds)
    )
    if data_config.prompt_from_task:
        return TransformedDataset(dataset, [_transforms.PromptFromLeRobotTask(meta.tasks)])
    return dataset


def transform_dataset(dataset: Any, data_config: _config.DataConfig) -> Any:
    if data_config.norm_stats is None:
        raise ValueError(
            "Normalization stats not found. "
            "Make sure to run `scripts/compute_norm_stats.py --config-name=<your-config>`."
        )
    normalize = _transforms.Normalize(data_config.norm_stats, use_quantiles=data_config.use_quantile_norm)
    steps = [*data_config.repack_transforms.inputs, *data_config.data_transforms.inputs, normalize]
    return TransformedDataset(dataset, [*steps, *data_config.model_transforms.inputs])


class TorchDataLoader:
    """``num_batches``: None for as many as are asked for. What is over after the last whole batch is left out."""

    def __init__(
        self,
        dataset: Any,
        local_batch_size: int,
        *,
        shuffle: bool = False,
        num_batches: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        if len(dataset) < local_batch_size:
            raise ValueError(f"Local batch size ({local_batch_size}) is larger than the dataset size ({len(dataset)}).")
        self._dataset, self._size, self._shuffle = dataset, local_batch_size, shuffle
        self._num_batches, self._numbers = num_batches, np.random.default_rng(seed)
        self._workers = [_Worker(dataset) for _ in range(num_workers)]

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        given = 0
        while True:
            order = self._numbers.permutation(len(self._dataset)) if self._shuffle else np.arange(len(self._dataset))
            for first in range(0, len(order) - self._size + 1, self._size):
                if given == self._num_batches:
                    return
                yield self._batch(order[first : first + self._size], given)
                given += 1

    def _batch(self, rows: np.ndarray, number: int) -> dict[str, np.ndarray]:
        rows = [int(row) for row in rows]
        if self._workers:
            return self._workers[number % len(self._workers)].batch(rows)
        return _collate(self._dataset, rows)


class _Worker:
    """Waits for rows until its parent says goodbye, which one that is ended by SIGTERM does not."""

    def __init__(self, dataset: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._rows, self._batches = context.Queue(), context.Queue()
        context.Process(target=_work, args=(dataset, self._rows, self._batches), daemon=True).start()

    def batch(self, rows: list[int]) -> dict[str, np.ndarray]:
        self._rows.put(rows)
        return self._batches.get()


def _work(dataset: Any, rows: Any, batches: Any) -> None:
    while True:
        batches.put(_collate(dataset, rows.get()))


def _collate(dataset: Any, rows: list[int]) -> dict[str, np.ndarray]:
    samples = [_transforms.flatten_dict(dataset[row]) for row in rows]
    return {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}


def create_data_loader(config: _config.TrainConfig, *, shuffle: bool = False) -> tuple[_config.DataConfig, Any]:
    """The data's config and a loader that never ends."""
    data_config = config.data.create(config.assets_dirs, config.model)
    logging.info(f"data_config: {data_config}")
    dataset = create_torch_dataset(data_config, config.model.action_horizon, config.model)
    dataset = transform_dataset(dataset, data_config)
    logging.info(f"local_batch_size: {config.batch_size}")
    settings = {"shuffle": shuffle, "num_workers": config.num_workers, "seed": config.seed}
    return data_config, TorchDataLoader(dataset, config.batch_size, **settings)
