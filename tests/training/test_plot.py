"""The picture of a run's losses."""

import json
from functools import partial

from positronic.training.plot import figure, write_plot
from positronic.utils.plotting import as_figure

ROWS = [{"step": step, "loss": 1 / step, "lr": 1e-3} for step in range(1, 6)]


def lines(rows):
    axes = as_figure(partial(figure, rows=rows)).axes[0]
    return {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in axes.lines}


def test_the_held_out_loss_is_beside_the_loss():
    """Where it was told, and only if it was."""
    rows = [row | ({"val_loss": 2.0} if row["step"] % 2 == 0 else {}) for row in ROWS]
    drawn = lines(rows)
    assert drawn["val_loss"] == [(2, 2.0), (4, 2.0)]
    assert [step for step, _ in drawn["loss"]] == [1, 2, 3, 4, 5]
    assert set(lines(ROWS)) == {"loss"}


def test_it_lies_beside_the_metrics(tmp_path):
    """As PNG; without metrics there is nothing to draw."""
    write_plot(tmp_path / "metrics.jsonl")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    write_plot(tmp_path / "metrics.jsonl")
    assert (tmp_path / "loss.png").read_bytes()[:4] == b"\x89PNG"
