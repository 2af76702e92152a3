"""Checkpoints come back bit for bit, are kept by rule, and damage to them is found."""

import json
import logging
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import flax.struct
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
from absl import logging as absl_logging

from iql_jax.errors import InputError
from iql_jax.training import sealed, stored_arrays
from iql_jax.training.checkpoint import Checkpoints


@flax.struct.dataclass
class State:
    step: jax.Array
    params: dict
    optimizer: optax.OptState


def make_state(seed=0, members=2):
    params = {"Dense_0": {"kernel": jax.random.normal(jax.random.key(seed), (members, 5, 7))}}
    return State(jnp.full((members,), seed), params, optax.adam(1e-3).init(params))


def assert_same(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert isinstance(one, jax.Array) == isinstance(other, jax.Array)
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


@pytest.fixture
def said():
    return []


@pytest.fixture
def checkpoints(tmp_path, said):
    with Checkpoints(tmp_path / "checkpoints", say=said.append) as opened:
        yield opened


def reopen(tmp_path, said, **kwargs):
    return Checkpoints(tmp_path / "checkpoints", say=said.append, **kwargs)


def names(tmp_path):
    return sorted(os.listdir(tmp_path / "checkpoints"))


# What goes in comes out.


def test_a_state_comes_back_in_its_structure(checkpoints, said):
    state = make_state(3)
    host = {"rng": 2**127 + 1, "score": 0.1, "best": None, "names": ["a", "ü"]}
    checkpoints.save(7, state, host)
    restored = checkpoints.restore(make_state(0))
    assert restored.update == 7
    assert restored.host == host
    assert_same(restored.arrays, state)
    assert said == []


def test_every_dtype_and_shape_comes_back_bit_for_bit(checkpoints):
    rng = np.random.default_rng(0)
    odd = np.array([np.nan, -0.0, np.inf, 1e-45], np.float32)
    odd.view(np.uint32)[0] = 0x7FC12345  # a NaN with a payload
    arrays = {
        "jax": [jnp.asarray(odd), jnp.arange(3), jnp.ones((2, 0)), jnp.bfloat16(1.5)],
        "numpy": [
            odd,
            rng.normal(size=(3, 4)),
            np.asfortranarray(rng.normal(size=(3, 4)).astype(np.float32)),
            rng.normal(size=(6, 4))[::2, ::-1],
            np.arange(3) * 2**40,
            np.array([True, False]),
            np.arange(5, dtype=np.uint8),
            np.array(2.5),
            np.zeros((0, 3)),
            np.ones(2, np.float16),
            np.ones(2, ml_dtypes.bfloat16),
        ],
    }
    checkpoints.save(1, arrays, {})
    restored = checkpoints.restore(arrays).arrays
    assert_same(restored, arrays)
    restored["numpy"][1][0, 0] = 1.0  # a replay buffer goes on being filled


def hold_writing(monkeypatch):
    """Makes saves wait before they write, until the event that it returns is set."""
    go_on = threading.Event()
    write = stored_arrays.write

    def write_later(path, arrays):
        assert go_on.wait(10)
        write(path, arrays)

    monkeypatch.setattr(stored_arrays, "write", write_later)
    return go_on


def test_arrays_can_be_donated_and_overwritten_at_once(checkpoints, monkeypatch):
    overwrite = jax.jit(lambda x: x * 0 - 1, donate_argnums=0)
    array, buffer = jnp.arange(100_000.0), np.arange(100_000)
    expected = {"array": np.array(array), "buffer": np.array(buffer)}
    host = {"n": [1]}
    overwritten = hold_writing(monkeypatch)
    checkpoints.save(1, {"array": array, "buffer": buffer}, host)
    overwrite(array).block_until_ready()
    buffer[:] = -1
    host["n"].append(2)
    overwritten.set()
    restored = checkpoints.restore(expected)
    assert_same(restored.arrays, expected)
    assert restored.host == {"n": [1]}


def test_shapes_alone_are_a_template(checkpoints):
    state = make_state(1)
    checkpoints.save(1, state, {})
    restored = checkpoints.restore(jax.eval_shape(make_state))
    assert_same(restored.arrays, jax.tree.map(np.asarray, state))


IN_ANOTHER_PROCESS = """
import sys
from pathlib import Path
import jax, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from iql_jax.training.checkpoint import Checkpoints
assert not any(name.startswith("orbax") for name in sys.modules), "Orbax takes 0.4 s to import"
assert len(jax.devices()) == 2
split = NamedSharding(Mesh(np.array(jax.devices()), ("members",)), PartitionSpec("members"))
template = {"split": jax.device_put(np.zeros((4, 3), np.float32), split), "host": np.zeros(5)}
with Checkpoints(Path(sys.argv[1]), say=print) as checkpoints:
    restored = checkpoints.restore(template)
    assert restored.arrays["split"].sharding == split
    assert type(restored.arrays["host"]) is np.ndarray
    checkpoints.save(restored.update + 1, restored.arrays, restored.host)
"""


def test_another_process_with_other_devices_restores_the_same(checkpoints, tmp_path, repository):
    rng = np.random.default_rng(0)
    arrays = {
        "split": jnp.asarray(rng.normal(size=(4, 3)), jnp.float32),
        "host": rng.normal(size=5),
    }
    checkpoints.save(1, arrays, {"x": 0.1}, wait=True)
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", IN_ANOTHER_PROCESS, tmp_path / "checkpoints"],
        cwd=repository,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    restored = checkpoints.restore(arrays)
    assert (restored.update, restored.host) == (2, {"x": 0.1})
    assert_same(restored.arrays, arrays)


def test_what_cannot_be_stored_exactly_is_refused(checkpoints):
    def refuses(arrays, match, host=None):
        with pytest.raises(TypeError, match=match):
            checkpoints.save(1, arrays, host or {})

    refuses({"key": jax.random.key(0)}, "'key' has dtype key<fry>")
    refuses({"names": np.array(["a"])}, "'names' has dtype <U1")
    refuses({"big": np.ones(3, ">f4")}, "'big' has dtype >f4")
    refuses({"a": {"step": 3}}, r"'a.step' is a int, not an array: put it into `host`")
    refuses({"a": {"b": np.ones(1)}, "a.b": np.ones(1)}, r"\['a.b'\] occur twice")
    refuses({"a": np.ones(1)}, "not JSON serializable", host={"x": np.float32(1)})
    assert checkpoints.all() == []


# Which are kept.


def save_all(checkpoints, scores):
    for update, score in scores.items():
        checkpoints.save(update, {"x": np.array([update])}, {}, score=score)
    checkpoints.wait()


def test_the_last_and_the_best_are_kept(tmp_path, said):
    scores = {1: 5.0, 2: 9.0, 3: None, 4: float("nan"), 5: 1.0, 6: -2.0}
    with reopen(tmp_path, said, keep_last=2, keep_best=2) as checkpoints:
        save_all(checkpoints, scores)
        assert checkpoints.all() == [1, 2, 5, 6]
        assert (checkpoints.best(), checkpoints.latest()) == (2, 6)
        assert names(tmp_path) == ["update_1", "update_2", "update_5", "update_6"]
        assert checkpoints.restore({"x": np.array([0])}, update=2).arrays["x"] == 2
    with reopen(tmp_path, said, keep_last=1, keep_best=0) as checkpoints:
        save_all(checkpoints, {70: float("nan")})
        assert (checkpoints.all(), checkpoints.best()) == ([70], None)


def test_the_newer_of_two_equals_is_the_best(checkpoints):
    save_all(checkpoints, {9: 1.0, 10: 1.0})
    assert checkpoints.best() == 10


def test_a_run_that_went_back_leaves_its_former_future(checkpoints):
    save_all(checkpoints, {100: 1.0, 200: 2.0, 300: 3.0})
    checkpoints.restore({"x": np.array([0])}, update=200)
    save_all(checkpoints, {250: 0.0})
    assert checkpoints.all() == [200, 250]


def test_saving_an_update_again_replaces_it(checkpoints, tmp_path):
    for content in (1, 2, 3):
        checkpoints.save(5, {"x": np.array([content])}, {"content": content}, wait=True)
        restored = checkpoints.restore({"x": np.array([0])})
        assert (restored.arrays["x"], restored.host["content"]) == (content, content)
    assert len(names(tmp_path)) == 1
    assert checkpoints.all() == [5]


def test_at_least_one_has_to_be_kept(tmp_path, said):
    with pytest.raises(InputError, match="the last 0 and the best 1"):
        reopen(tmp_path, said, keep_last=0)


# In the background.


def test_saving_goes_on_in_the_background(checkpoints, monkeypatch):
    go_on = hold_writing(monkeypatch)
    checkpoints.save(1, {"x": np.ones(3)}, {})
    assert checkpoints.all() == []  # returned, and nothing incomplete is taken for a checkpoint
    go_on.set()
    checkpoints.save(2, {"x": np.ones(3)}, {})
    assert checkpoints.all()[0] == 1  # the one before was waited for
    checkpoints.wait()
    assert checkpoints.all() == [1, 2]


def test_orbax_is_quiet_and_nobody_else_is_silenced(checkpoints):
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logger, verbosity = absl_logging.get_absl_logger(), absl_logging.get_verbosity()
    logger.addHandler(handler)
    absl_logging.set_verbosity(absl_logging.INFO)
    try:
        checkpoints.save(1, {"x": np.ones(3)}, {}, wait=True)
        checkpoints.restore({"x": np.ones(3)})
        absl_logging.info("of the trainer")
        assert [record.getMessage() for record in records] == ["of the trainer"]
    finally:
        logger.removeHandler(handler)
        absl_logging.set_verbosity(verbosity)


# Damage.


def truncate(file):
    file.write_bytes(file.read_bytes()[:-1])


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGE = {
    "truncated": (truncate, "bytes, .* were written|not the whole manifest"),
    "flipped": (flip, "changed after it was written|not the whole manifest"),
    "emptied": (lambda file: file.write_bytes(b""), "has 0 bytes|not the whole manifest"),
    "removed": (Path.unlink, "is missing"),
}


@pytest.fixture(scope="module")
def two_saved(tmp_path_factory):
    directory = tmp_path_factory.mktemp("two") / "checkpoints"
    with Checkpoints(directory, say=print) as checkpoints:
        save_all(checkpoints, {1: 1.0, 2: 2.0})
    return directory


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_to_any_file_is_found_and_the_one_before_used(two_saved, tmp_path, kind):
    damage, what = DAMAGE[kind]
    files = [file for file in (two_saved / "update_2").rglob("*") if file.is_file()]
    assert len(files) > 5
    for i, file in enumerate(files):
        if not file.stat().st_size:
            continue
        directory = tmp_path / str(i)
        shutil.copytree(two_saved, directory)
        damaged = directory / file.relative_to(two_saved)
        damage(damaged)
        said = []
        with Checkpoints(directory, say=said.append) as checkpoints:
            restored = checkpoints.restore({"x": np.array([0])})
            assert (restored.update, restored.arrays["x"]) == (1, 1)
            assert len(said) == 2
            assert said[0].startswith(f"WARNING: damaged checkpoint, not used: {damaged} ")
            assert re.search(what, said[0])
            assert said[1] == "WARNING: using the checkpoint of update 1 instead"
            assert checkpoints.all() == [1]


def test_a_score_edited_into_the_manifest_does_not_count(two_saved, tmp_path, said):
    directory = tmp_path / "checkpoints"
    shutil.copytree(two_saved, directory)
    manifest = directory / "update_1" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"score": 99.0}))
    with reopen(tmp_path, said) as checkpoints:
        assert checkpoints.best() == 2
        with pytest.raises(InputError, match=r"update_1/manifest\.json was changed after"):
            checkpoints.restore({"x": np.array([0])}, update=1)


def test_a_renamed_checkpoint_is_not_taken_for_another(two_saved, tmp_path, said):
    directory = tmp_path / "checkpoints"
    shutil.copytree(two_saved, directory)
    (directory / "update_1").rename(directory / "update_3")
    with reopen(tmp_path, said) as checkpoints:
        assert checkpoints.restore({"x": np.array([0])}).update == 2
    assert "update_3 holds update 1" in said[0]


def test_a_later_format_is_not_misread(tmp_path, said, monkeypatch):
    with reopen(tmp_path, said) as checkpoints:
        save_all(checkpoints, {1: None})
        monkeypatch.setattr(sealed, "_FORMAT", 2)
        save_all(checkpoints, {2: None})
        monkeypatch.undo()
        assert checkpoints.restore({"x": np.array([0])}).update == 1
    assert "has format 2, 1 is read here" in said[0]


def test_a_damaged_checkpoint_is_replaced_when_its_update_comes_again(two_saved, tmp_path, said):
    directory = tmp_path / "checkpoints"
    shutil.copytree(two_saved, directory)
    truncate(directory / "update_2" / "host.json")
    with reopen(tmp_path, said) as checkpoints:
        assert checkpoints.restore({"x": np.array([0])}).update == 1
        checkpoints.save(2, {"x": np.array([22])}, {}, wait=True)
        assert checkpoints.all() == [1, 2]
    with reopen(tmp_path, said) as checkpoints:
        assert checkpoints.restore({"x": np.array([0])}).arrays["x"] == 22
    assert len(names(tmp_path)) == 2


def test_none_good_says_what_is_wrong_with_each(two_saved, tmp_path, said):
    directory = tmp_path / "checkpoints"
    shutil.copytree(two_saved, directory)
    truncate(directory / "update_1" / "host.json")
    (directory / "update_2" / "manifest.json").unlink()
    with reopen(tmp_path, said) as checkpoints:
        for _ in range(2):
            with pytest.raises(InputError) as caught:
                checkpoints.restore({"x": np.array([0])})
            for text in ("is damaged", "update_2/manifest.json is missing", "1 bytes, 2 were"):
                assert text in str(caught.value)


def test_no_checkpoint_says_which_there_are(two_saved, tmp_path, said):
    with reopen(tmp_path, said) as checkpoints:
        assert (checkpoints.all(), checkpoints.latest(), checkpoints.best()) == ([], None, None)
        with pytest.raises(InputError, match=f"no checkpoint in {tmp_path}/checkpoints"):
            checkpoints.restore({"x": np.array([0])})
    with (
        Checkpoints(two_saved, say=said.append) as checkpoints,
        pytest.raises(InputError, match=r"no checkpoint of update 3 .* there: 1, 2"),
    ):
        checkpoints.restore({"x": np.array([0])}, update=3)


@pytest.mark.parametrize(
    ("template", "difference"),
    [
        ({"x": np.array([0.0])}, r"x is int64\[1\] there, float64\[1\] here"),
        ({"x": np.zeros((2,), np.int64)}, r"x is int64\[1\] there, int64\[2\] here"),
        ({"x": np.array([0]), "y": np.ones(2)}, r"y is absent there, float64\[2\] here"),
        ({}, r"x is int64\[1\] there, absent here"),
        ([np.ones(1)] * 9, r"0 is absent there.* and 6 more; resume with the settings"),
    ],
)
def test_a_template_that_differs_says_where(two_saved, said, template, difference):
    with (
        Checkpoints(two_saved, say=said.append) as checkpoints,
        pytest.raises(InputError, match=f"update_2/arrays does not fit this run: .*{difference}"),
    ):
        checkpoints.restore(template)
    assert said == []  # no damage: nothing is passed over


def test_one_removed_by_its_run_while_being_read_is_no_damage(
    two_saved, tmp_path, said, monkeypatch
):
    directory = tmp_path / "checkpoints"
    shutil.copytree(two_saved, directory)
    read = stored_arrays.read

    def read_late(path, *args):
        shutil.rmtree(directory / "update_2", ignore_errors=True)
        return read(path, *args)

    monkeypatch.setattr(stored_arrays, "read", read_late)
    with reopen(tmp_path, said) as checkpoints:
        assert checkpoints.restore({"x": np.array([0])}).update == 1
    assert said == []


def test_leftovers_are_ignored_and_removed_by_the_next_save(two_saved, tmp_path, said):
    directory = tmp_path / "checkpoints"
    shutil.copytree(two_saved, directory)
    shutil.copytree(directory / "update_2", directory / ".saving_update_9")
    shutil.copytree(directory / "update_2", directory / ".removed_update_9")
    (directory / ".saving_update_9" / "manifest.json").unlink()
    with reopen(tmp_path, said) as checkpoints:
        assert checkpoints.all() == [1, 2]
        assert len(names(tmp_path)) == 4  # who only reads changes nothing
        save_all(checkpoints, {3: 3.0})
    assert names(tmp_path) == ["update_2", "update_3"]
    assert said == []
