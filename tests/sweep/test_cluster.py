"""What a run gets of the machines there are, and sweeps on a Ray cluster of this machine's own."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from iql_jax.errors import InputError
from iql_jax.sweep import cluster
from iql_jax.sweep.cluster import Machine, Share, share_out
from tests.sweep.waiting import wait_for

LAPTOP, SERVER, GPUS = Machine(2, 0), Machine(64, 0), Machine(32, 4)
STAND_INS = pathlib.Path(__file__).with_name("sweep_of_stand_ins.py")


@pytest.mark.parametrize(
    ("machines", "num_runs", "asked", "expected"),
    [
        ([LAPTOP], 5, {}, Share(1, 0, 2)),
        ([LAPTOP], 1, {}, Share(2, 0, 1)),
        ([SERVER], 3, {}, Share(21, 0, 3)),
        ([SERVER], 3, {"cpus": 1}, Share(1, 0, 3)),
        ([SERVER], 100, {"cpus": 10}, Share(10, 0, 6)),
        ([LAPTOP, SERVER], 3, {}, Share(2, 0, 3)),  # as much as fits on either
        ([SERVER, SERVER], 4, {}, Share(32, 0, 4)),
        ([GPUS], 10, {}, Share(8, 1, 4)),
        ([GPUS], 10, {"gpus": 0.5}, Share(4, 0.5, 8)),
        ([GPUS], 10, {"gpus": 0.3}, Share(3, 0.3, 10)),
        ([GPUS], 10, {"gpus": 2}, Share(16, 2, 2)),
        ([GPUS], 10, {"gpus": 0}, Share(3, 0, 10)),
        ([LAPTOP, GPUS], 10, {}, Share(8, 1, 4)),
        ([Machine(0, 0), SERVER], 2, {}, Share(32, 0, 2)),  # a head that takes no tasks
    ],
)
def test_runs_share_what_there_is(machines, num_runs, asked, expected):
    assert share_out(machines, num_runs, **asked) == expected


@pytest.mark.parametrize(
    ("machines", "asked", "message"),
    [
        ([LAPTOP], {"cpus": 3}, "no machine has 3 CPUs and 0 GPUs .* 2 CPUs and 0 GPUs"),
        ([LAPTOP], {"gpus": 1}, "no machine has 1 CPUs and 1 GPUs"),
        ([GPUS], {"gpus": 5}, "no machine has"),
        ([], {}, "there is: none"),
        ([LAPTOP], {"cpus": 0}, "cpus_per_run is 0"),
        ([GPUS], {"gpus": 1.5}, "gpus_per_run is 1.5"),
        ([GPUS], {"gpus": -1}, "gpus_per_run is -1"),
        ([GPUS], {"gpus": float("nan")}, "gpus_per_run is nan"),
    ],
)
def test_more_than_there_is_is_refused(machines, asked, message):
    with pytest.raises(InputError, match=message):
        share_out(machines, 4, **asked)


def test_without_ray_the_command_that_installs_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r'a sweep needs Ray.*: pip install "ray>='):
        cluster.require_ray()


def test_a_cluster_that_does_not_answer_is_told_at_once(monkeypatch):
    monkeypatch.setattr(cluster, "require_ray", lambda: None)  # it need not be there
    with (
        pytest.raises(InputError, match=r"no Ray cluster answers at --address=127.0.0.1:1: "),
        cluster.connect("127.0.0.1:1"),
    ):
        pass


@pytest.fixture
def start(folder, repository):
    """Starts a Python command in the folder, in a session of its own as a terminal would."""
    pytest.importorskip("ray", reason='sweeps need Ray: pip install "ray>=2.48,<3"')
    environment = os.environ | {"PYTHONPATH": str(repository)}
    with contextlib.ExitStack() as stack:

        def start(*command, **options):
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, *map(str, command)],
                    start_new_session=True,
                    text=True,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    **{"env": environment} | options,
                )
            )
            stack.callback(process.kill)
            return process

        yield start


def is_alive(pid):
    """Returns whether a process goes on: it is there, and no zombie."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux whether processes live")
def test_a_killed_sweep_continues_with_what_was_left(start, folder, finished_run):
    flags = ["--root=runs", "--cpus_per_run=1", "--no_pin", "--", f"--finished_run={finished_run}"]
    grid = "--configs=quick.py,slow.py,bad.py"
    runs = folder / "runs" / "Pendulum-v1"
    sweep = start(STAND_INS, grid, *flags)
    wait_for(lambda: (runs / "slow" / "pid").exists() or sweep.poll() is not None)
    wait_for(lambda: "Pendulum-v1/quick" in read(folder / "runs" / "sweep.json") or sweep.poll())
    assert sweep.poll() is None, sweep.stdout.read()
    sweep.kill()
    pid = int((runs / "slow" / "pid").read_text())
    wait_for(lambda: not is_alive(pid))  # no run is left over
    (runs / "slow" / "begun").touch()  # Ray may have ended it before it could save

    again = start(STAND_INS, grid, *flags)
    output, _ = again.communicate(timeout=120)
    assert again.returncode == 1, output
    assert "3 runs, 1 of them finished before" in output
    assert "Pendulum-v1/slow finished" in output
    assert "Pendulum-v1/quick finished" not in output
    assert f"unfinished   Pendulum-v1/bad: exit status 2; error: no such data\n{' ' * 13}" in output
    assert f"{' ' * 13}{runs / 'bad.log'}\n" in output
    (scores,) = rows_of(output)
    assert "40.0" in scores and "4" in scores  # members, of both runs
    assert (runs / "quick.log").read_text().count("$ python") == 1
    assert (runs / "slow.log").read_text().count("$ python") == 2


def rows_of(output):
    """Returns the columns of the table's rows that IQL has."""
    lines = [line.split() for line in output.splitlines() if line.startswith("file/data.npz")]
    return [columns for columns in lines if columns[1] == "iql"]


def read(path):
    return path.read_text() if path.exists() else ""


CLUSTER_OF_TWO = """
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
cluster.add_node(num_cpus=1)
print("address", cluster.address, flush=True)
input()
cluster.shutdown()
"""


@pytest.mark.slow
def test_runs_stopped_on_a_cluster_end_as_if_they_never_were(start, folder, repository):
    from tests.training.small_runs import contents, differing

    two = start("-c", CLUSTER_OF_TWO, stdin=subprocess.PIPE, env=os.environ)
    address = next(line.split()[1] for line in two.stdout if line.startswith("address"))
    command = [
        "-m",
        "iql_jax.sweep",
        "--configs=slow.py,slow.py:16",
        "--num_seeds=2",
        "--root=runs",
    ]
    command += [f"--address={address}", "--no_pin", "--", "--wandb_mode=disabled"]
    runs = folder / "runs" / "Pendulum-v1"
    sweep = start(*command)
    for log in (runs / "slow.log", runs / "slow-16.log"):  # both at once, one on each machine
        wait_for(lambda log=log: "updates/s" in read(log) or sweep.poll() is not None, 300)
    assert sweep.poll() is None, sweep.stdout.read()
    os.killpg(sweep.pid, signal.SIGINT)
    output, _ = sweep.communicate(timeout=120)
    assert sweep.returncode == 130, output
    assert "2; 1 CPU(s) and 0 GPU(s) for each run, 2 at once" in output
    assert output.count("stopped by SIGTERM at update") >= 2
    assert not any(
        json.loads((runs / name / "results.json").read_text())["finished"]
        for name in ("slow", "slow-16")
    )

    sweep = start(*command)
    output, _ = sweep.communicate(timeout=300)
    assert sweep.returncode == 0, output
    assert len(rows_of(output)) == 2
    with contextlib.suppress(BrokenPipeError):
        two.communicate("\n", timeout=60)
    assert all("(continued)" in read(runs / f"{name}.log") for name in ("slow", "slow-16"))
    alone = start(
        repository / "train_offline.py",
        "--config=slow.py:16",
        "--num_seeds=2",
        "--save_dir=alone",
        "--wandb_mode=disabled",
    )
    output, _ = alone.communicate(timeout=300)
    assert alone.returncode == 0, output
    assert differing(contents(runs / "slow-16"), contents(folder / "alone")) == []
