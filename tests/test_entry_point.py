"""The command line as a user types it: a run, and bad input as one line and status 2."""

import csv
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

QUICK = (
    "--config.hidden_dims=(16,16)",
    "--batch_size=32",
    "--max_steps=40",
    "--log_interval=20",
    "--eval_interval=20",
    "--eval_episodes=2",
    "--wandb_mode=disabled",
)


@pytest.fixture(scope="module")
def run_command(repository, tmp_path_factory):
    """Runs train_offline.py in a folder of its own."""
    folder = tmp_path_factory.mktemp("entry")
    environment = os.environ | {"IQL_JAX_DATA_DIR": str(folder), "D4RL_DATASET_DIR": str(folder)}
    rng = np.random.default_rng(0)
    np.savez(
        folder / "pendulum.npz",
        observations=rng.normal(size=(200, 3)).astype(np.float32),
        actions=rng.uniform(-2, 2, size=(200, 1)).astype(np.float32),
        rewards=rng.normal(size=200).astype(np.float32),
        terminals=np.zeros(200, bool),
        timeouts=np.arange(200) % 50 == 49,
    )

    def run(*flags):
        return subprocess.run(
            [sys.executable, str(repository / "train_offline.py"), *flags],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )

    run.folder, run.environment = folder, environment
    return run


CONFIGS = pathlib.Path(__file__).parent.parent / "configs"
PENDULUM = (
    f"--config={CONFIGS / 'pointmaze.py'}",
    "--config.reward_transform=none",
    "--dataset=file/pendulum.npz",
    "--env_name=Pendulum-v1",
)
OTHER = (*PENDULUM[:3],)


def test_a_run_from_flags_to_results(run_command):
    done = run_command(
        *PENDULUM, "--config.action_transform=rescale", "--num_seeds=2", "--save_dir=run", *QUICK
    )
    assert done.returncode == 0, done.stderr
    assert "xla_bridge" not in done.stderr  # nothing but the run's own lines
    run_dir = run_command.folder / "run"
    for word in ("file/pendulum.npz", "196 transitions", "fingerprint", "last return", "wall time"):
        assert word in done.stdout
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [(row["update"], row["member"]) for row in rows] == [(20, 0), (20, 1), (40, 0), (40, 1)]
    assert all("training/value_loss" in row for row in rows)
    with open(run_dir / "evaluations.csv") as file:
        evaluations = list(csv.DictReader(file))
    assert [row["update"] for row in evaluations] == ["20", "20", "40", "40"]
    assert all(float(row["length_mean"]) == 200 for row in evaluations)
    config = json.loads((run_dir / "config.json").read_text())
    assert config["config"]["expectile"] == 0.9 and config["config"]["max_steps"] == 40
    record = json.loads((run_dir / "record.json").read_text())
    assert record["dataset"]["fingerprint"] and record["versions"]["jax"]
    assert record["matmul_precision"] == "float32"
    assert json.loads((run_dir / "results.json").read_text())["finished"]
    assert (run_dir / "learning_curves.png").stat().st_size > 1000
    assert list((run_dir / "checkpoints").iterdir())

    again = run_command(*PENDULUM, "--save_dir=run", *QUICK)
    assert again.returncode == 2
    assert "already holds a run" in again.stderr


BAD_INPUT = [
    (["--env_name=hoper-medium-v2"], "did you mean 'hopper'?"),
    (["--env_name=hopper-medum-v2"], "hopper-medium-v2'?"),
    (["--env_name=hopper-medium-v2"], "generated/antmaze"),  # offline: what works without it
    (["--config=configs/nope.py"], "there is no config file 'configs/nope.py'"),
    (["--env_name=Nope-v1"], "no config is known for --env_name=Nope-v1"),
    (["--updates_per_step=2"], "Unknown command line flag 'updates_per_step'"),
    (["--config.expectil=0.8"], 'Did you mean "expectile"'),
    (["--config.expectile=abc"], "could not convert string to float"),
    (["--evalepisodes=3"], "Did you mean: eval_episodes"),
    (["--max_steps=0"], "max_steps is 0, but must be a count of at least 1"),
    (["--batch_size=-3"], "batch_size is -3"),
    (["--num_seeds=0"], "num_seeds is 0"),
    (["--sweep=expectil=0.7"], "did you mean 'expectile'"),
    (["--resume"], "--resume needs --save_dir"),
    (["--resume=perhaps"], "bare, or auto"),
    (["train"], "unexpected argument 'train'"),
    ([*PENDULUM], "action_transform=rescale"),
    ([*OTHER, "--env_name=Hopper-v4"], "has 3 numbers"),
    (["--dataset=file/none.npz"], "none.npz"),
    (
        [*OTHER, "--env_name=Nope-v1"],
        "there is no environment 'Nope-v1'",
    ),
    (["--save_dir=/proc/run"], "cannot write into save directory '/proc/run'"),
]

# Each command in a child of one process that has imported what takes seconds to import.
MANY_COMMANDS = """
import json, os, runpy, sys
import iql_jax.training.offline
script, *commands = json.load(sys.stdin)
for index, flags in enumerate(commands):
    child = os.fork()
    if not child:
        for stream, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{name}{index}", os.O_WRONLY | os.O_CREAT), stream)
        sys.argv = [script, *flags]
        runpy.run_path(script, run_name="__main__")
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.fixture(scope="module")
def refused(run_command, repository):
    """Exit status and standard error of the commands with bad input."""
    folder = run_command.folder
    commands = [[*flags, "--wandb_mode=disabled"] for flags, _ in BAD_INPUT]
    done = subprocess.run(
        [sys.executable, "-c", MANY_COMMANDS],
        input=json.dumps([str(repository / "train_offline.py"), *commands]),
        cwd=folder,
        env=run_command.environment | {"PYTHONPATH": str(repository)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    statuses = [int(line) for line in done.stdout.split()]
    return [(status, (folder / f"err{i}").read_text()) for i, status in enumerate(statuses)]


@pytest.mark.parametrize("index", range(len(BAD_INPUT)), ids=lambda i: " ".join(BAD_INPUT[i][0]))
def test_bad_input_is_one_line_and_status_2(refused, index):
    status, said = refused[index]
    assert status == 2, said
    assert BAD_INPUT[index][1] in said
    assert "Traceback" not in said
    assert len([line for line in said.splitlines() if line.startswith("error:")]) == 1


def test_bad_input_leaves_what_is_there(refused, run_command):
    names = {path.name for path in run_command.folder.iterdir()} - {"run", "runs"}
    logs = {f"{kind}{index}" for kind in ("out", "err") for index in range(len(BAD_INPUT))}
    assert names - logs == {"pendulum.npz"}


def test_help_lists_the_flags_of_the_script(run_command):
    done = run_command("--help")
    for flag in ("--env_name", "--save_dir", "--num_seeds", "--resume", "--sweep", "--wandb_mode"):
        assert flag in done.stdout.replace("[no]", "")
