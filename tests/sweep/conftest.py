"""A folder to sweep in: config files of a name each, and data for them."""

import numpy as np
import pytest

from iql_jax.report import loggers, records, summary
from tests.training.small_runs import write_data

CONFIG = """
from iql_jax.config import base_config


def get_config(size="8"):
    config = base_config()
    config.env_name = "Pendulum-v1"
    config.dataset = "file/data.npz"
    config.action_transform = "rescale"
    config.hidden_dims = (int(size), 8)
    config.batch_size = 8
    config.max_steps = 40_000
    config.log_interval = 5_000
    config.eval_interval = 20_000
    config.eval_episodes = 2
    return config
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current directory of the test, with `quick.py`, `slow.py`, `bad.py` and `data.npz`."""
    write_data(tmp_path / "data.npz")
    for name in ("quick", "slow", "bad"):
        (tmp_path / f"{name}.py").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def finished_run(tmp_path):
    """The directory of a run of two seeds that scored 30 and 50."""
    path = tmp_path / "finished_run"
    path.mkdir()
    config = {"agent": "iql", "env_name": "Pendulum-v1", "dataset": "file/data.npz"}
    records.write_config(path, config, {"seed": 0})
    records.write_record(path, {"dataset": {"name": "file/data.npz", "source": "own file"}})
    scores = np.array([30.0, 50.0])
    values = dict.fromkeys(("return_mean", "score", "length_mean", "wall_seconds"), scores)
    log = loggers.open_run(path, [0, 1])
    log.log_evaluation(1000, {"episodes": 20, **values})
    log.close()
    summary.write_results(path, summary.summarise(path, finished=True))
    return path
