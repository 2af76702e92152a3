"""Which runs a grid has, by which commands, and which of them are finished."""

import json
from pathlib import Path

import pytest

from iql_jax.errors import InputError
from iql_jax.sweep.grid import Job, Record, check_arguments, is_finished, make_jobs

ANTMAZE = "configs/antmaze.py"


@pytest.fixture
def jobs_of(repository, monkeypatch):
    """Returns the jobs of a grid, in the checkout, under the root `runs`."""
    monkeypatch.chdir(repository)

    def make(*configs, envs=(), seed=0, num_seeds=1, seeds_per_run=None, flags=()):
        return make_jobs(Path("runs"), configs, envs, seed, num_seeds, seeds_per_run, flags)

    return make


def test_every_config_in_every_environment(jobs_of, repository):
    jobs = jobs_of(
        ANTMAZE,
        "configs/idql_antmaze.py",
        envs=["antmaze-umaze-v2", "generated/antmaze-umaze-v0"],
        seed=4,
        num_seeds=10,
        flags=["--max_steps=7", "--config.expectile=0.8"],
    )
    assert [job.name for job in jobs] == [
        "antmaze-umaze-v2/antmaze",
        "generated-antmaze-umaze-v0/antmaze",
        "antmaze-umaze-v2/idql_antmaze",
        "generated-antmaze-umaze-v0/idql_antmaze",
    ]
    assert jobs[1].arguments == [
        str(repository / "train_offline.py"),
        "--config=configs/antmaze.py",
        "--env_name=generated/antmaze-umaze-v0",
        "--seed=4",
        "--num_seeds=10",
        "--max_steps=7",
        "--config.expectile=0.8",
        "--save_dir=runs/generated-antmaze-umaze-v0/antmaze",
        "--resume=auto",
    ]
    assert jobs[1].log == Path("runs/generated-antmaze-umaze-v0/antmaze.log")


def test_without_environments_each_config_has_its_own(jobs_of):
    jobs = jobs_of("configs/pointmaze.py", "configs/antmaze_finetune.py")
    assert jobs[0].name == "generated-pointmaze-medium-v0/pointmaze"
    assert "--env_name=generated/pointmaze-medium-v0" in jobs[0].flags
    assert [job.script.name for job in jobs] == ["train_offline.py", "train_finetune.py"]


def test_seeds_are_split_without_one_lost_or_doubled(jobs_of):
    jobs = jobs_of(ANTMAZE, seed=2, num_seeds=5, seeds_per_run=2)
    assert [job.flags[2:4] for job in jobs] == [
        ("--seed=2", "--num_seeds=2"),
        ("--seed=4", "--num_seeds=2"),
        ("--seed=6", "--num_seeds=1"),
    ]
    names = [job.name.partition("/")[2] for job in jobs]
    assert names == ["antmaze.seeds_2-3", "antmaze.seeds_4-5", "antmaze.seeds_6-6"]
    assert jobs[0].log.name == "antmaze.seeds_2-3.log"
    assert jobs_of(ANTMAZE, num_seeds=5, seeds_per_run=5) == jobs_of(ANTMAZE, num_seeds=5)


def test_a_config_may_take_an_argument(folder):
    jobs = make_jobs(folder, ["quick.py:16", "quick.py"], [], 0, 1)
    assert [job.name for job in jobs] == ["Pendulum-v1/quick-16", "Pendulum-v1/quick"]
    assert jobs[0].flags[0] == "--config=quick.py:16"


@pytest.mark.parametrize(
    ("configs", "grid", "message"),
    [
        (["nope.py"], {}, "no config file 'nope.py'; this project has configs/adroit.py"),
        (["broken.py"], {}, "'broken.py' cannot be used: ZeroDivisionError: division by zero"),
        (["data.npz"], {}, "'data.npz' is no Python file"),
        (["quick.py:x"], {}, "'quick.py' cannot be used: ValueError"),
        (["quick.py"], {"env_names": ["Pendulm-v1"]}, "did you mean 'Pendulum-v1'?"),
        (["mazes.py"], {"env_names": ["antmaze-umaz-v2"]}, "did you mean 'd4rl/antmaze-umaze-v2'?"),
        (["mazes.py"], {"env_names": ["d4rl/antmaze-umaz-v2"]}, "antmaze-umaze-v2'?"),
        (["mazes.py"], {"env_names": ["Pendulum-v1"]}, "unknown dataset 'Pendulum-v1'"),
        (["quick.py", "quick.py"], {}, "two runs of the grid would be"),
        (["quick.py", "other/quick.py"], {}, "two runs of the grid would be"),
        (["quick.py"], {"num_seeds": 0}, "num_seeds is 0"),
        (["quick.py"], {"seeds_per_run": 0}, "seeds_per_run is 0"),
        (["quick.py"], {"seed": -1}, "seed is -1"),
        (["quick.py"], {"flags": ["--seed=3"]}, "'--seed=3' after -- .*; use --seed before the --"),
        (["quick.py"], {"flags": ["--config=a.py"]}, "use --configs"),
        (["quick.py"], {"flags": ["--resume"]}, "every run is resumed"),
    ],
    ids=lambda value: str(value),
)
def test_bad_grids_say_what_is_wrong(folder, configs, grid, message):
    (folder / "broken.py").write_text("def get_config():\n    return 1 / 0\n")
    (folder / "other").mkdir()
    (folder / "other" / "quick.py").write_text((folder / "quick.py").read_text())
    (folder / "mazes.py").write_text(
        "from iql_jax.config import base_config\ndef get_config():\n    return base_config()\n"
    )
    with pytest.raises(InputError, match=message):
        make_jobs(folder, configs, **{"env_names": [], "seed": 0, "num_seeds": 1, **grid})


def test_an_environment_of_no_dataset_will_do_for_data_of_its_own(folder):
    (folder / "mazes.py").write_text(
        "from iql_jax.config import base_config\ndef get_config():\n    return base_config()\n"
    )
    data = ["--dataset=file/data.npz"]
    assert make_jobs(folder, ["mazes.py"], ["Pendulum-v1"], 0, 1, flags=data)
    assert make_jobs(folder, ["mazes.py"], ["nowhere"], 0, 1, flags=[*data, "--noevaluate"])
    assert make_jobs(folder, ["mazes.py"], ["file/data.npz"], 0, 1)


def test_the_entry_point_is_asked_about_flags(folder):
    check_arguments(make_jobs(folder, ["quick.py"], [], 0, 1, flags=["--max_steps=3"]))
    jobs = make_jobs(folder, ["quick.py"], [], 0, 1, flags=["--max_stps=3"])
    with pytest.raises(InputError, match=r"^Unknown command line flag 'max_stps'.* max_steps"):
        check_arguments(jobs)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"finished": true}', True),
        ('{"finished": false}', False),
        ('{"updates": 3}', False),
        ('{"finished": tr', False),
        ("[]", False),
        (None, False),
    ],
)
def test_results_say_whether_a_run_is_finished(tmp_path, text, expected):
    if text is not None:
        (tmp_path / "results.json").write_text(text)
    assert is_finished(tmp_path) is expected


def test_finished_is_what_finished_with_the_same_flags(tmp_path):
    job = Job("maze/iql", tmp_path, Path("train.py"), ("--seed=0", "--max_steps=5"))
    longer = Job("maze/iql", tmp_path, Path("train.py"), ("--seed=0", "--max_steps=9"))
    job.run_dir.mkdir(parents=True)
    (job.run_dir / "results.json").write_text('{"finished": true}')
    assert not Record(tmp_path).has(job)  # by whatever flags it was made: its entry point knows
    Record(tmp_path).add(job)
    assert Record(tmp_path).has(job)
    assert not Record(tmp_path).has(longer)
    (job.run_dir / "results.json").unlink()
    assert not Record(tmp_path).has(job)


def test_a_damaged_record_is_as_good_as_none(tmp_path):
    job = Job("maze/iql", tmp_path, Path("train.py"), ())
    (tmp_path / "sweep.json").write_text('{"fini')
    record = Record(tmp_path)
    assert not record.has(job)
    record.add(job)
    assert json.loads((tmp_path / "sweep.json").read_text()) == {"finished": {"maze/iql": []}}
