import json

import pytest

from iql_jax.report import __main__ as program
from iql_jax.report import book, runs
from iql_jax.report.published import entries


def with_record(path, **fields):
    record = json.loads((path / "record.json").read_text()) | fields
    (path / "record.json").write_text(json.dumps(record))
    return path


def test_runs_stand_under_the_kind_of_their_data(make_run):
    with_record(
        make_run("a", [[40.0, 60.0]]),
        command="/opt/venv/bin/python3.11 train_offline.py --config=configs/antmaze.py "
        "--save_dir=/home/me/a --wandb_mode disabled --seed=3",
        git={"commit": "0123456789abcdef", "modified": True},
    )
    make_run("b", [[30.0, 34.0]], dataset="d4rl/hopper-medium-v2", label="normalised score")
    found = runs.find_runs([make_run("c", [[1.0]], dataset="file/x.npz").parent])
    text = book.results_book(found)
    assert text.index("## D4RL's own data") < text.index("## Data generated") < text.index("## Oth")
    assert "50.0" in text and "32.0" in text
    assert "- `python train_offline.py --config=configs/antmaze.py --seed=3`: CPU, 2 cores" in text
    assert "commit 0123456789ab and changes, data fingerprint f00d" in text
    assert "66.3" in text.split("## Data generated")[0]  # the papers', beside D4RL's data alone


def test_a_run_that_was_continued_shows_the_command_that_made_its_last_score(make_run):
    first, second = ({"commit": letter * 40, "modified": False} for letter in "ab")
    path = with_record(
        make_run("a", [[40.0]]),
        command="python train_offline.py --max_steps=30000",
        git=first,
        resumes=[
            {"update": 30_000, "command": "python train_offline.py --max_steps=90000"},
            {
                "update": 40_000,
                "command": "python train_offline.py --max_steps=50000",
                "git": second,
            },
        ],
    )
    text = book.results_book(runs.find_runs([path]))
    assert "- `python train_offline.py --max_steps=50000`: CPU" in text
    assert "max_steps=30000" not in text and "max_steps=90000" not in text
    assert "commit aaaaaaaaaaaa, commit bbbbbbbbbbbb from update 40,000 on, data" in text


def test_folders_of_the_machine_are_left_out(make_run):
    path = with_record(
        make_run("a", [[40.0]], dataset="file//home/me/data/x.hdf5", label="return"),
        command="python train_offline.py --dataset=file//home/me/data/x.hdf5 "
        "--config=/srv/configs/my.py",
    )
    record = json.loads((path / "record.json").read_text())
    record["dataset"]["source"] = "own file /home/me/data/x.hdf5 (see https://host/a/b)"
    (path / "record.json").write_text(json.dumps(record))
    text = book.results_book(runs.find_runs([path]))
    assert "/home" not in text and "/srv" not in text
    assert "`python train_offline.py --dataset=file/x.hdf5 --config=my.py`" in text
    assert "own file x.hdf5 (see https://host/a/b)" in text


def test_every_published_number_of_ours_to_reproduce_has_its_command(repository):
    text = book.results_book([])
    for entry in entries():
        if entry["recipe"].startswith("CORL"):
            continue
        for name in entry["scores"]:
            assert f"--env_name={name} --num_seeds=10`" in text
    for word in text.split():
        if word.startswith("--config="):
            assert (repository / word.removeprefix("--config=")).is_file()


def test_accelerators_are_named():
    gpu = {"device_platform": "gpu", "device_kind": "H100", "device_count": 2}
    assert book._hardware(gpu | {"cpu_model": "EPYC"}) == "2 x H100"
    assert book._hardware({"cpu_model": "EPYC", "cpu_cores": 2}) == "EPYC, 2 cores"


def test_the_program_writes_the_book(make_run, tmp_path, capsys):
    path = make_run("a", [[40.0, 60.0]])
    assert program.main(["book", str(path), "--output", str(tmp_path / "results.md")]) == 0
    assert (tmp_path / "results.md").read_text().startswith("# Results\n\nMade by `python -m")
    capsys.readouterr()
    assert program.main(["book"]) == 0
    assert "## Published tables" in capsys.readouterr().out


def test_the_datas_own_score_stands_first(make_run):
    path = make_run("a", [[40.0, 60.0]])
    data = json.loads((path / "record.json").read_text())["dataset"]
    with_record(path, dataset=data | {"behaviour_return": 3.5, "behaviour_score": 23.4})
    lines = book.results_book(runs.find_runs([path])).splitlines()
    (first,) = [i for i, line in enumerate(lines) if "(the data itself) | success rate" in line]
    assert "| - | - | - | 23.4 | - |" in lines[first] and "| iql |" in lines[first + 1]
    assert lines[first].count("|") == lines[first + 1].count("|")


def test_the_commands_alone_are_a_script(capsys):
    assert program.main(["commands"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert all(line.startswith(("# ", "python train_")) for line in lines)
    (hopper,) = [line for line in lines if "mujoco" not in line and "=hopper-medium-v2" in line]
    assert f"`{hopper}`" in book.results_book([])


@pytest.mark.parametrize("flag", ["--save_dir=x", "--save_dir x", "--resume", "--wandb_mode=off"])
def test_flags_of_the_machine_are_left_out(flag):
    record = {"command": f"python train_offline.py {flag} --seed=1"}
    assert book._command(record) == "python train_offline.py --seed=1"
