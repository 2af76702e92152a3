"""What a run shows on dashboards, read back from the files that TensorBoard reads."""

import pytest

from iql_jax.training.offline import train_offline
from iql_jax.training.run_directory import RunOptions
from tests.report.test_tensorboard_logger import events
from tests.training.small_runs import MEMBERS, small_config, write_data


def test_pictures_distributions_and_the_results_arrive(tmp_path):
    pytest.importorskip("tensorboardX")
    config = small_config(write_data(tmp_path / "data.npz"), max_steps=40, eval_interval=20)
    options = RunOptions(str(tmp_path / "run"), tensorboard=True, checkpoint_seconds=1e9)
    assert train_offline(config, MEMBERS, options) == 0
    found = {
        (value.tag, event.step): value
        for event in events(tmp_path / "run" / "tensorboard" / "member0_seed3")
        for value in event.summary.value
    }
    for picture in ("learning_curves", "distributions"):
        assert found[f"media/{picture}", 40].image.width > 300
    for update in (20, 40):
        assert found["distribution/advantage", update].histo.num > 0
        assert found["distribution/q", update].histo.num > 0
        assert found["evaluation/return_mean", update].simple_value < 0
    assert any(tag.startswith("results") for tag, _ in found)
