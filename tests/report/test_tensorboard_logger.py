"""TensorBoard's event files read back: scalars, histograms, pictures, and what a resume hides."""

import struct
import sys

import numpy as np
import pytest

from iql_jax.errors import InputError
from iql_jax.report import loggers, pictures, summary, tensorboard_logger


def events(path):
    """The events of all files in a directory: length, checksum, message, checksum; repeated."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    for file in sorted(path.iterdir()):
        data, place = file.read_bytes(), 0
        while place < len(data):
            (length,) = struct.unpack_from("<Q", data, place)
            yield event_pb2.Event.FromString(data[place + 12 : place + 12 + length])
            place += length + 16


def test_a_missing_package_names_its_install_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(InputError, match="needs the package tensorboardX; install it with 'pip"):
        tensorboard_logger.connector(tmp_path, [0])


def test_events_read_back(make_run, tmp_path):
    pytest.importorskip("tensorboardX")
    source = make_run("source", [[10, 20]])
    path = tmp_path / "run"
    path.mkdir()
    for resume_at in (None, 10):
        connect = [tensorboard_logger.connector(path, [5, 6], resume_at)]
        log = loggers.open_run(path, [5, 6], resume_at, connect)
        update = 20 if resume_at is None else 30
        log.log_metrics(update, {"training/q_loss": [0.5, np.nan]}, env_steps=7)
        log.log_evaluation(update, {"score": [1.0, 2.0], "success_rate": None})
        log.log_histograms(update, {"q": np.arange(10.0).reshape(2, 5)})
        log.log_media(update, "learning_curves", pictures.draw_run(source)[0])
        log.close(summary.summarise(source))
    found, purged = {}, []
    for event in events(path / "tensorboard" / "member0_seed5"):
        if event.session_log.status == 1:
            purged.append(event.step)
        for value in event.summary.value:
            found[value.tag, event.step] = value
    assert purged == [11]
    assert found["training/q_loss", 20].simple_value == 0.5
    assert found["env_steps", 20].simple_value == 7
    assert found["evaluation/score", 30].simple_value == 1.0
    histogram = found["distribution/q", 20].histo
    assert (histogram.min, histogram.max, histogram.num) == (0.0, 4.0, 5)
    assert found["media/learning_curves", 30].image.width > 300
    assert any(tag.startswith("results") for tag, _ in found)
    other = [
        (value.tag, value.simple_value)
        for event in events(path / "tensorboard" / "member1_seed6")
        for value in event.summary.value
    ]
    assert ("evaluation/score", 2.0) in other
    assert "training/q_loss" not in [tag for tag, _ in other]  # NaN cannot be drawn
