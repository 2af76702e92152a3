"""Published codes: what stands in for their imports, and how they are found."""

import importlib
import subprocess
import sys

from benchmarks import peers
from benchmarks.peer_codes import PEERS

STAND_INS = """
from benchmarks import stand_ins
stand_ins.install(["gym", "distrax", "tensorflow_probability", "pyrallis"])
stand_ins.install_decorator("pyrallis", "wrap")
stand_ins.install_jax_of_2022()
stand_ins.install_gaussians()
import distrax, gym.wrappers.deep, jax, jax.numpy as jnp, pyrallis, tensorflow_probability
from gym.spaces import Box
from tensorflow_probability.substrates import jax as tfp
class Wrapper(gym.Wrapper): pass
assert pyrallis.wrap()(len) is len
assert jax.tree_map(lambda x: x + 1, [1]) == [2]
jax.jit(lambda x: x, static_argnames=("missing",))(1)
x = jnp.array([[0.5, -1.0]])
one = distrax.Normal(jnp.zeros(2), jnp.ones(2)).log_prob(x)
both = tfp.distributions.MultivariateNormalDiag(jnp.zeros(2), jnp.ones(2)).log_prob(x)
assert jnp.allclose(one, -0.5 * x**2 - 0.5 * jnp.log(2 * jnp.pi))
assert jnp.allclose(both, one.sum(-1))
"""


def test_stand_ins_are_enough_to_import_and_real_where_it_counts(repository):
    subprocess.run([sys.executable, "-W", "error", "-c", STAND_INS], cwd=repository, check=True)


def test_checkouts_are_found_by_name(tmp_path):
    (tmp_path / "jax-corl").mkdir()
    assert peers.find_checkout(tmp_path, PEERS["JAX-CORL"].folders) == tmp_path / "jax-corl"
    assert peers.find_checkout(tmp_path, PEERS["unifloral"].folders) is None


def test_members_are_split_evenly_over_the_cores():
    spec = {"updates": 100}
    members = f"ours, {peers.MEMBERS} members"
    assert peers.own_specs(spec, cores=3)[members]["devices"] == 2
    assert peers.own_specs(spec, cores=1)[members]["devices"] == 1
    assert peers.own_specs(spec, cores=8)[members] | {"program": ""} == {
        "program": "",
        "members": peers.MEMBERS,
        "devices": peers.MEMBERS,
        "updates": 25,
    }


def test_the_codes_need_no_more_than_numpy_to_be_named():
    modules = importlib.import_module("benchmarks.peer_codes").__dict__
    assert not {"jax", "torch", "flax"} & set(modules)
