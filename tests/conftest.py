"""Fixtures for every test: strict JAX settings, and the optional folder of golden files."""

import os
import pathlib

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # BLAS threads fight XLA's on small machines
os.environ.setdefault("MUJOCO_GL", "egl")
# Most of the tests' time is compiling small programs, and 40% of that LLVM's polish of them. What
# is compared with the authors' numbers is compiled as users have it, and so is all of `make slow`.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jax
import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent


def pytest_configure():
    jax.config.update("jax_numpy_rank_promotion", "raise")
    jax.config.update("jax_debug_key_reuse", True)
    jax.config.update("jax_default_matmul_precision", "float32")


@pytest.fixture
def all_optimizations():
    """Compiles as users do."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    fewer = os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"].lower() in ("1", "true")
    jax.config.update("jax_disable_most_optimizations", fewer)


@pytest.fixture(scope="session")
def repository() -> pathlib.Path:
    """The checkout's root."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """The folder of golden numbers and sample data beside the checkout, where there is one."""
    path = REPOSITORY.parent / "shared"
    if not path.is_dir():
        pytest.skip(f"needs the golden files and sample data in {path}")
    return path


@pytest.fixture(scope="session")
def pendulum_run(tmp_path_factory) -> pathlib.Path:
    """A finished run in Pendulum: two good members, and one whose training was not finite."""
    from iql_jax.training.members import Member
    from iql_jax.training.offline import train_offline
    from iql_jax.training.run_directory import RunOptions
    from tests.training.small_runs import MEMBERS, small_config, write_data

    folder = tmp_path_factory.mktemp("pendulum")
    config = small_config(write_data(folder / "data.npz"))
    members = [*MEMBERS, Member(5, {"critic_lr": 1e30})]
    options = RunOptions(str(folder / "run"), on_nan="drop")
    assert train_offline(config, members, options) == 0
    return folder / "run"
