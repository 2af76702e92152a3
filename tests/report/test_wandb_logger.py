"""W&B without its servers: offline files read back, a stand-in on this machine, lost networks."""

import json
import os
import struct
import subprocess
import sys

import pytest

from iql_jax.errors import InputError
from iql_jax.report import runs, wandb_logger
from tests.report.wandb_stand_in import stand_in

KEY = "0123456789" * 4

# Run apart, since the client keeps threads and a service for the life of a process.
TRAIN = """
import json, sys
import numpy as np
from iql_jax.report import loggers, summary, wandb_logger

arguments = json.loads(sys.argv[1])
wandb_logger.INIT_SECONDS, wandb_logger.FINISH_SECONDS = arguments["limits"]
run_dir, seeds = arguments["run_dir"], [5, 6]
settings = wandb_logger.Settings(mode=arguments["mode"], group="g", tags=["t"])
connect = [wandb_logger.connector(run_dir, seeds, settings, {"config": {"a": {"b": 0.9}}})]
log = loggers.open_run(run_dir, seeds, arguments["resume_at"], connect)
for update in arguments["updates"]:
    log.log_metrics(update, {"training/q_loss": [0.5, 1.5]}, env_steps=update // 2)
    log.log_evaluation(update, {"score": [1.0, 2.0], "episodes": 3}, env_steps=update // 2)
    if update == arguments["pause_at"]:
        print("paused", flush=True)
        sys.stdin.readline()
log.log_histograms(update, {"advantage": np.arange(200.0).reshape(2, 100)})
log.log_media(update, "learning_curves", arguments["picture"])
log.log_media(update, "episode", arguments["video"], member=1)
log.close(summary.summarise(run_dir) if arguments["results"] else None)
print("finished", flush=True)
"""


def start(repository, tmp_path, mode="online", updates=(10, 20), resume_at=None, **more):
    picture = tmp_path / "picture.png"
    if not picture.exists():
        from matplotlib import image

        image.imsave(picture, [[0.0, 1.0], [1.0, 0.0]])
    video = tmp_path / "episode.mp4"
    video.write_bytes(b"sent as it is")
    (tmp_path / "run").mkdir(exist_ok=True)
    (tmp_path / "run" / "config.json").write_text("{}")
    arguments = {
        "run_dir": str(tmp_path / "run"),
        "mode": mode,
        "updates": list(updates),
        "resume_at": resume_at,
        "pause_at": more.pop("pause_at", None),
        "limits": more.pop("limits", [20.0, 20.0]),
        "results": more.pop("results", True),
        "picture": str(picture),
        "video": str(video),
    }
    environment = {name: value for name, value in os.environ.items() if "WANDB" not in name}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": str(repository), **more}
    return subprocess.Popen(
        [sys.executable, "-c", TRAIN, json.dumps(arguments)],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def train(*arguments, **more):
    with start(*arguments, **more) as child:
        out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    assert "Traceback" not in err
    assert out.endswith("finished\n")
    return err


def records(path):
    """The records of a `.wandb` file: LevelDB's log format, 7 bytes of header in each block."""
    from wandb.proto import wandb_internal_pb2

    data, place, parts = path.read_bytes(), 7, []
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        parts.append(data[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in (1, 4):
            yield wandb_internal_pb2.Record.FromString(b"".join(parts))
            parts = []


def read_back(path):
    """Return the run, its history by step, the step metric of every metric, and the summary."""
    run, history, steps, summary = None, {}, {}, {}
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = run or record.run
        elif kind == "metric":
            steps[record.metric.name or record.metric.glob_name] = record.metric.step_metric
        elif kind in ("history", "summary"):
            items = record.history.item if kind == "history" else record.summary.update
            row = {}
            for item in items:
                name, *inner = item.nested_key or [item.key]
                value = json.loads(item.value_json)
                row[name] = row.get(name, {}) | {inner[0]: value} if inner else value
            if kind == "history":
                history.setdefault(row["_step"], {}).update(row)
            else:
                summary |= row
    return run, history, steps, summary


def test_offline_files_read_back(repository, tmp_path):
    err = train(repository, tmp_path, mode="offline")
    assert "W&B: offline, 2 runs in group 'g'" in err
    assert "warning" not in err
    ids = json.loads((tmp_path / "run" / "wandb_ids.json").read_text())["ids"]
    for member, run_id in enumerate(ids):
        (path,) = (tmp_path / "run" / "wandb").glob(f"offline-run-*/run-{run_id}.wandb")
        run, history, steps, summary = read_back(path)
        assert (run.run_group, run.display_name) == ("g", f"g-seed{5 + member}")
        assert list(run.tags) == ["t"]
        config = {item.key: json.loads(item.value_json) for item in run.config.update}
        assert config["config"] == {"a": {"b": 0.9}}
        assert (config["member"], config["seed"]) == (member, 5 + member)
        assert steps["*"] == "update"
        assert steps["online/*"] == "env_steps"
        assert history[10]["training/q_loss"] == [0.5, 1.5][member]
        assert history[20]["evaluation/score"] == history[20]["online/score"] == [1, 2][member]
        assert (history[20]["update"], history[20]["env_steps"]) == (20, 10)
        assert history[20]["distribution/advantage"]["_type"] == "histogram"
        assert history[20]["results"]["_type"] == "table-file"
        assert ("media/learning_curves" in history[20]) == (member == 0)
        assert ("media/episode" in history[20]) == (member == 1)
        assert summary["results/last_score"] == [1, 2][member]
        assert summary["results/last_score_mean"] == 1.5


def test_a_resume_continues_the_same_runs_without_doubles(repository, tmp_path):
    with stand_in() as server:
        access = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}
        err = train(repository, tmp_path, updates=[10, 20, 30], **access)
        assert f"W&B: online, 2 runs in group 'g', {server.url}/somebody" in err
        err = train(repository, tmp_path, updates=[30, 40], resume_at=20, **access)
        assert "WARNING" not in err
    assert sorted(run["name"] for run in server.runs.values()) == ["g-seed5", "g-seed6"]
    for run in server.runs.values():
        assert run["starts"] == 2
        assert run["config"]["config"]["value"] == {"a": {"b": 0.9}}
        assert [row["_step"] for row in run["history"]] == [10, 20, 30, 40]
        assert [row["env_steps"] for row in run["history"]] == [5, 10, 15, 20]
        assert all("training/q_loss" in row for row in run["history"])
        assert all("evaluation/score" in row for row in run["history"])


def lose_network(repository, tmp_path, **more):
    with stand_in() as server:
        access = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY, "limits": [20.0, 2.0]}
        with start(repository, tmp_path, pause_at=10, **access, **more) as child:
            assert child.stdout.readline() == "paused\n"
            server.answering = False
            out, err = child.communicate("go on\n", timeout=60)
        assert server.refused > 0
    assert (child.returncode, out) == (0, "finished\n")
    assert "Traceback" not in err
    assert "warning: W&B has not received everything; 'wandb sync" in err
    rows = runs.read_evaluations(tmp_path / "run")
    assert [row["update"] for row in rows] == [10, 10, 20, 20]


def test_a_network_lost_in_mid_run_does_not_stop_training(repository, tmp_path):
    lose_network(repository, tmp_path, results=False)


@pytest.mark.slow
def test_a_network_lost_in_mid_run_does_not_stop_the_table(repository, tmp_path):
    lose_network(repository, tmp_path)  # the client tries to send a table for twenty seconds


def test_no_network_at_the_start_means_offline(repository, tmp_path):
    with stand_in() as server:
        server.answering = False
        access = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}
        err = train(repository, tmp_path, limits=[2.0, 20.0], **access)
    assert "warning: W&B could not start online" in err
    assert "W&B: offline, 2 runs" in err
    assert len(list((tmp_path / "run" / "wandb").glob("offline-run-*"))) == 2
    assert len(runs.read_metrics(tmp_path / "run")) == 4


def test_modes_follow_the_key_and_the_environment(tmp_path):
    home = {"HOME": str(tmp_path)}
    mode, hint = wandb_logger.resolve_mode("auto", home)
    assert mode == "disabled"
    assert "no API key" in hint
    assert "\n" not in hint
    assert wandb_logger.resolve_mode("auto", home | {"WANDB_API_KEY": KEY}) == ("online", None)
    assert wandb_logger.resolve_mode("auto", home | {"WANDB_MODE": "offline"}) == ("offline", None)
    assert wandb_logger.resolve_mode("offline", home) == ("offline", None)
    with_key = home | {"WANDB_API_KEY": KEY}
    assert wandb_logger.resolve_mode("disabled", with_key) == ("disabled", None)
    with pytest.raises(InputError, match="needs an API key and none is configured"):
        wandb_logger.resolve_mode("online", home)
    with pytest.raises(InputError, match="'onlin' is not known; choose one of auto, online"):
        wandb_logger.resolve_mode("onlin", home)


def test_keys_are_found_where_the_client_keeps_them(tmp_path):
    home = {"HOME": str(tmp_path)}
    (tmp_path / ".netrc").write_text(f"machine api.wandb.ai login user password {KEY}\n")
    assert wandb_logger.resolve_mode("auto", home)[0] == "online"
    own = home | {"WANDB_BASE_URL": "https://wandb.example.org"}
    assert wandb_logger.resolve_mode("auto", own)[0] == "disabled"
    (tmp_path / "other").write_text(f"machine wandb.example.org login user password {KEY}\n")
    named = own | {"NETRC": str(tmp_path / "other")}
    assert wandb_logger.resolve_mode("auto", named)[0] == "online"
    config = tmp_path / ".config" / "wandb"
    config.mkdir(parents=True)
    (config / "settings").write_text("[default]\nbase_url = https://wandb.example.org\n")
    assert wandb_logger.resolve_mode("auto", home)[0] == "disabled"
    (tmp_path / ".netrc").write_text("spoilt")
    assert wandb_logger.resolve_mode("auto", home)[0] == "disabled"


def test_without_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    said = []
    off = wandb_logger.connector(tmp_path, [0], wandb_logger.Settings(), {}, said.append)
    assert off() is None
    assert "not installed" in said[0]
    with pytest.raises(InputError, match="install it with 'pip install wandb'"):
        wandb_logger.connector(tmp_path, [0], wandb_logger.Settings(mode="offline"), {})


def test_disabled_says_and_imports_nothing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    said = []
    settings = wandb_logger.Settings(mode="disabled")
    assert wandb_logger.connector(tmp_path, [0], settings, {}, said.append)() is None
    assert said == []


def test_ids_are_kept_and_added_to(tmp_path):
    settings = wandb_logger.Settings()
    first = wandb_logger.run_ids(tmp_path, settings, 2)
    assert len(set(first)) == 2
    assert wandb_logger.run_ids(tmp_path, settings, 2) == first
    assert wandb_logger.run_ids(tmp_path, settings, 3)[:2] == first
