"""Run directories made by the log itself, small and of known scores."""

import numpy as np
import pytest

from iql_jax.report import loggers, records


@pytest.fixture
def make_run(tmp_path):
    """A function that writes a run directory and returns its path."""

    def make(
        name,
        scores,
        *,
        agent="iql",
        dataset="generated/maze-v0",
        label="success rate (%)",
        online_from=None,
        **config,
    ):
        """Write a run whose `scores` [U][P] were evaluated every 1000 updates; NaN: unknown."""
        scores = np.asarray(scores, float)
        path = tmp_path / name
        path.mkdir(parents=True)
        config = {"agent": agent, "env_name": dataset, "expectile": 0.9} | config
        records.write_config(path, config, {"seed": 0})
        data = {"name": dataset, "source": "made for a test", "rows": 1234, "fingerprint": "f00d"}
        record = {"dataset": data, "score_meaning": label, "cpu_model": "CPU", "cpu_cores": 2}
        records.write_record(path, record)
        log = loggers.open_run(path, range(scores.shape[1]))
        for index, row in enumerate(scores):
            update = 1000 * (index + 1)
            steps = None if online_from is None else max(0, update - online_from)
            losses = {"training/q_loss": row / 10, "training/v": row, "timing/rate": 5.0}
            log.log_metrics(update, losses, env_steps=steps)
            values = {
                "episodes": 20,
                "return_mean": row / 100,
                "score": row,
                "success_rate": row / 100,
                "length_mean": 250.0,
                "wall_seconds": 2.0,
            }
            log.log_evaluation(update, values, env_steps=steps)
            samples = np.random.default_rng(index).normal(size=(len(row), 200))
            log.log_histograms(update, {"advantage": samples, "q": samples - 50})
        log.close()
        return path

    return make
