"""Normalised scores are D4RL's."""

import numpy as np
import pytest

from iql_jax.envs import scores


@pytest.mark.parametrize(
    ("name", "returns", "expected"),
    [
        ("hopper-medium-v2", 3234.3, 100.0),
        ("hopper-medium-v2", -20.272305, 0.0),
        ("halfcheetah-medium-replay-v2", 12135.0, 100.0),
        ("walker2d-expert-v0", (1.629008 + 4592.3) / 2, 50.0),
        ("ant-medium-v2", 3879.7, 100.0),
        ("antmaze-large-play-v2", 1.0, 100.0),
        ("kitchen-mixed-v0", 1.0, 25.0),
    ],
)
def test_scores_of_known_returns(name, returns, expected):
    np.testing.assert_allclose(scores.normalized_score(name, returns), expected, atol=1e-9)
    np.testing.assert_allclose(
        scores.normalized_score(f"d4rl/{name}", returns), expected, atol=1e-9
    )


def test_scores_keep_the_shape_and_the_precision_of_returns():
    returns = np.array([[0, 1], [1, 0]], np.float32)
    score = scores.normalized_score("antmaze-umaze-v2", returns)
    assert score.dtype == np.float64
    np.testing.assert_array_equal(score, [[0, 100], [100, 0]])


@pytest.mark.parametrize(
    "name", ["generated/antmaze-umaze-v0", "Pendulum-v1", "hopper-medium-v9", "file/own.hdf5"]
)
def test_names_without_reference_returns_have_no_score(name):
    assert scores.reference_returns(name) is None
    assert scores.normalized_score(name, [1.0, 2.0]) is None


def test_reference_returns_are_random_then_expert():
    assert scores.reference_returns("hopper-medium-v2") == (-20.272305, 3234.3)


def test_a_dataset_that_d4rl_gives_no_references_for_has_no_score():
    assert scores.reference_returns("ant-random-expert-v0") is None
