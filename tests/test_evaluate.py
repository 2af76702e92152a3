"""A saved run is scored again as it was while it trained, or otherwise as asked."""

import json
import shutil

import pytest

from iql_jax import evaluate
from iql_jax.config import DiffusionSettings
from iql_jax.errors import InputError
from iql_jax.training.offline import train_offline
from iql_jax.training.run_directory import RunOptions
from tests.training.small_runs import MEMBERS, evaluations, metrics, small_config, write_data


def logged(run_dir, update):
    rows = [row for row in evaluations(run_dir) if row["update"] == str(update)]
    return {int(row["member"]): float(row["return_mean"]) for row in rows}


def found(scores):
    return {row["member"]: row["return_mean"] for row in scores.rows()}


@pytest.mark.parametrize("update", [90, 100])
def test_the_episodes_of_training_again(pendulum_run, update):
    scores = evaluate.evaluate_run(pendulum_run, checkpoint=update)
    assert scores.update == update and scores.members == [0, 1]  # 2 was dropped
    assert found(scores) == pytest.approx(logged(pendulum_run, update), rel=1e-4)


def test_one_member_other_episodes(pendulum_run):
    scores = evaluate.evaluate_run(pendulum_run, member=1)
    assert found(scores) == pytest.approx({1: logged(pendulum_run, 100)[1]}, rel=1e-4)
    other = evaluate.evaluate_run(pendulum_run, member=1, episodes=3, seed=0)
    assert other.rows()[0]["episodes"] == 3
    assert found(other) != found(scores)
    assert found(evaluate.evaluate_run(pendulum_run, member=1, episodes=3, seed=0)) == found(other)


def test_other_candidates_score_what_they_did_in_training(tmp_path):
    diffusion = DiffusionSettings(
        hidden_dim=8, time_dim=4, time_hidden_dims=(4, 4), num_diffusion_steps=2, num_candidates=2
    )
    config = small_config(
        write_data(tmp_path / "data.npz"),
        agent="idql",
        diffusion=diffusion,
        max_steps=2,
        eval_interval=2,
    )
    options = RunOptions(str(tmp_path / "run"), eval_candidates=("5",))
    assert train_offline(config, MEMBERS[:1], options) == 0
    row = next(row for row in metrics(tmp_path / "run") if "evaluation/return_mean@5" in row)
    usual = evaluate.evaluate_run(tmp_path / "run")
    five = evaluate.evaluate_run(tmp_path / "run", eval_candidates="5")
    assert found(five) == pytest.approx({0: row["evaluation/return_mean@5"]}, rel=1e-4)
    assert found(usual) == pytest.approx(logged(tmp_path / "run", 2), rel=1e-4)
    assert found(usual) != found(five)


def test_the_table_and_json(pendulum_run, capsys):
    assert evaluate.main([str(pendulum_run), "--checkpoint=best"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "in Pendulum-v1: 2 episodes per member" in lines[0]
    assert lines[1].split() == [
        *("member", "seed", "return", "std", "success", "episode", "length"),
    ]
    assert [line.split()[0] for line in lines[2:]] == ["0", "1", "mean"]
    assert lines[2].split()[-1] == "200"
    assert evaluate.main([str(pendulum_run), "--json", "--member=1"]) == 0
    read = json.loads(capsys.readouterr().out)
    assert read["update"] == 100 and read["score_meaning"] == "return"
    assert read["members"][0]["return_mean"] == pytest.approx(
        logged(pendulum_run, 100)[1], rel=1e-4
    )


def test_bad_input_is_one_line_and_status_2(pendulum_run, capsys):
    for arguments, message in (
        (["--episodes=0"], "episodes is 0, but must be a count of at least 1"),
        (["--member=2"], "member 2 of "),
        (["--checkpoint=7"], "no checkpoint of update 7"),
        (["--env_name=Pendulum-v7"], "no environment 'Pendulum-v7'"),
        (["--env_name=CartPole-v1"], "CartPole-v1"),
        (["--eval_candidates=16"], "candidates are drawn by the agent idql alone"),
        (["--env_name=MountainCarContinuous-v0"], "has observations of 2 numbers, but"),
    ):
        assert evaluate.main([str(pendulum_run), *arguments]) == 2
        told = capsys.readouterr().err
        assert told.startswith("error: ") and message in told and told.count("\n") == 1
    with pytest.raises(SystemExit):
        evaluate.main([str(pendulum_run), "--checkpoint=first"])
    assert "invalid" in capsys.readouterr().err


def test_a_run_without_an_environment_needs_one_named(pendulum_run, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(pendulum_run, run_dir)
    record = json.loads((run_dir / "record.json").read_text())
    record["env_name"] = None
    (run_dir / "record.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="was trained without an environment; name one: --env_na"):
        evaluate.evaluate_run(run_dir)
    scores = evaluate.evaluate_run(run_dir, env_name="Pendulum-v1")
    assert found(scores) == pytest.approx(logged(pendulum_run, 100), rel=1e-4)
