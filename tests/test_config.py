"""Configurations: every file builds, every bad value is refused by name."""

import dataclasses
import importlib.util
import json
import math
import pathlib

import pytest

from iql_jax import agents
from iql_jax.config import (
    DiffusionSettings,
    OnlineConfig,
    RunConfig,
    add_online,
    base_config,
    from_config_dict,
    from_fields,
    idql_config,
    validate,
)
from iql_jax.errors import InputError

CONFIGS = sorted((pathlib.Path(__file__).parent.parent / "configs").glob("*.py"))


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_builds(path):
    module = load(path)
    config = from_config_dict(module.get_config())
    assert (
        "python train_offline.py" in module.__doc__ or "python train_finetune.py" in module.__doc__
    )
    agent = agents.get(config.agent)
    hash(agent.make_config(config.settings(), 3, 2))
    agent.make_hyperparameters(config.settings())
    kept = json.loads(json.dumps(dataclasses.asdict(config)))  # as a run directory keeps it
    assert from_fields(kept) == config


def test_the_authors_numbers():
    configs = {path.stem: from_config_dict(load(path).get_config()) for path in CONFIGS}
    expected = {  # expectile, temperature, dropout, reward transform, evaluation episodes
        "locomotion": (0.7, 3.0, 0.0, "return_range_1000", 10),
        "antmaze": (0.9, 10.0, 0.0, "minus_one", 100),
        "kitchen": (0.7, 0.5, 0.1, "none", 10),
        "adroit": (0.7, 0.5, 0.1, "none", 10),
    }
    for name, numbers in expected.items():
        c = configs[name]
        found = (c.expectile, c.temperature, c.dropout_rate, c.reward_transform, c.eval_episodes)
        assert found == numbers, name
        shared = (c.discount, c.target_update_rate, c.batch_size, c.max_steps, c.hidden_dims)
        assert shared == (0.99, 0.005, 256, 1_000_000, (256, 256)), name
        assert (c.actor_lr, c.critic_lr, c.value_lr) == (3e-4, 3e-4, 3e-4), name
        assert c.actor_decay_steps == 1_000_000, name


def test_defaults_live_in_one_place():
    assert from_config_dict(base_config()) == RunConfig()


def test_flags_override_the_config():
    config = from_config_dict(base_config(), max_steps=7, env_name=None)
    assert config.max_steps == 7
    assert config.env_name == RunConfig().env_name


def test_the_dataset_is_the_environments_unless_named():
    assert RunConfig(env_name="a").dataset_name == "a"
    assert RunConfig(env_name="a", dataset="file/b.npz").dataset_name == "file/b.npz"


def test_no_decay_is_an_infinite_schedule():
    assert RunConfig(opt_decay_schedule="none").actor_decay_steps == math.inf


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("batch_size", 0, "batch_size is 0, but must be a count of at least 1"),
        ("max_steps", -5, "max_steps is -5, but must be a count"),
        ("eval_episodes", 0, "eval_episodes is 0"),
        ("hidden_dims", (), "hidden_dims is ()"),
        ("hidden_dims", (256, 0), "each at least 1"),
        ("dropout_rate", 1.0, "dropout_rate is 1.0, but must be in"),
        ("discount", 1.5, "discount is 1.5"),
        ("expectile", 1.0, "strictly between 0 and 1"),
        ("temperature", -1.0, "temperature is -1.0"),
        ("temperature", math.nan, "temperature is nan"),
        ("target_update_rate", 0.0, "target_update_rate is 0.0"),
        ("actor_lr", math.inf, "actor_lr is inf"),
        ("opt_decay_schedule", "linear", "one of cosine, none"),
        ("reward_transform", "minus_two", "one of none, minus_one, return_range_1000"),
        ("precision", "float64", "one of float32, tf32, bfloat16_products"),
    ],
)
def test_bad_values_are_refused_by_name(field, value, message):
    with pytest.raises(InputError) as caught:
        validate(dataclasses.replace(RunConfig(), **{field: value}))
    assert message in str(caught.value)
    assert field in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("num_pretraining_steps", -1, "num_pretraining_steps is -1, but must be a count"),
        ("updates_per_step", 0, "updates_per_step is 0"),
        ("init_dataset_size", 0, "init_dataset_size is 0"),
        ("action_noise", -0.1, "action_noise is -0.1, but must be a number >= 0"),
        ("sampling", "half", "one of mixed, symmetric, online"),
    ],
)
def test_bad_values_of_finetuning_are_refused_by_name(field, value, message):
    online = dataclasses.replace(OnlineConfig(), **{field: value})
    with pytest.raises(InputError, match=message):
        validate(dataclasses.replace(RunConfig(), online=online))


def test_flags_of_finetuning_override_the_config():
    config = from_config_dict(add_online(base_config()), updates_per_step=4, warmup_steps=None)
    assert config.online == dataclasses.replace(OnlineConfig(), updates_per_step=4)
    assert config.actor_decay_steps == math.inf
    with pytest.raises(InputError, match=r"updates_per_step is for finetuning.*train_finetune"):
        from_config_dict(base_config(), updates_per_step=4)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("hidden_dim", 0, "a count of at least 1"),
        ("num_blocks", -1, "a count of at least 0"),
        ("time_dim", 7, "even, at least 2"),
        ("time_hidden_dims", (), "widths of at least 1"),
        ("activation", "relu", "one of mish, swish"),
        ("num_diffusion_steps", 0, "a count of at least 1"),
        ("schedule", "sigmoid", "one of vp, cosine, linear"),
        ("ema_rate", 0.0, "in (0, 1]"),
        ("weight_decay", -1.0, "a number >= 0"),
        ("policy_updates", 3, "a count that divides batch_size, which is 256"),
        ("critic_batch_size", 257, "from 1 to batch_size, which is 256"),
        ("weighting", "soft", "one of none, exponential, implicit, hard"),
        ("num_candidates", 0, "a count of at least 1"),
        ("acting_rule", "max", "one of argmax, implicit, softmax"),
        ("exploration_rule", "max", "one of argmax, implicit, softmax"),
        ("softmax_temperature", 0.0, "above 0"),
    ],
)
def test_bad_diffusion_settings_are_refused_by_name(field, value, message):
    diffusion = dataclasses.replace(DiffusionSettings(), **{field: value})
    with pytest.raises(InputError) as caught:
        validate(RunConfig(agent="idql", diffusion=diffusion))
    assert f"diffusion.{field} is {value!r}, but must be {message}" in str(caught.value)


def test_discrete_actions_have_no_gradient_and_no_diffusion():
    with pytest.raises(InputError, match="policy_extraction is 'ddpg_bc', but must be awr where"):
        validate(RunConfig(policy_distribution="categorical", policy_extraction="ddpg_bc"))
    with pytest.raises(InputError, match="agent is 'idql', but must be iql or bc for discrete"):
        validate(RunConfig(policy_distribution="categorical", agent="idql"))


@pytest.mark.parametrize("name", ["idql_mujoco", "idql_antmaze"])
@pytest.mark.parametrize("recipe", ["paper", "last_commit", "small"])
def test_every_recipe_of_idql_builds(name, recipe):
    path = next(path for path in CONFIGS if path.stem == name)
    config = from_config_dict(load(path).get_config(recipe))
    assert config.agent == "idql"
    assert config.expectile == (0.9 if name == "idql_antmaze" else 0.7)
    if recipe == "paper":
        sizes = (config.batch_size, config.max_steps, config.dropout_rate)
        assert sizes == (2048, 1_500_000, 0.1)
        assert config.diffusion == DiffusionSettings()


def test_an_unknown_recipe_or_variant_is_refused_with_the_known_ones():
    by_name = {path.stem: load(path) for path in CONFIGS}
    with pytest.raises(InputError, match="no recipe 'big' of IDQL: choose one of paper, last_comm"):
        by_name["idql_mujoco"].get_config("big")
    with pytest.raises(InputError, match=r"no variant 'both' .*: choose one of critics_only, poli"):
        by_name["idql_antmaze_finetune"].get_config("both")


@pytest.mark.parametrize(("variant", "steps"), [("critics_only", 1e6), ("policy_too", 2e6)])
def test_the_variants_of_idqls_finetuning(variant, steps):
    path = next(path for path in CONFIGS if path.stem == "idql_antmaze_finetune")
    config = from_config_dict(load(path).get_config(variant))
    assert config.diffusion.finetune_policy == (variant == "policy_too")
    assert config.actor_decay_steps == steps  # to 0 when the policy has had its last update
    assert (config.online.sampling, config.online.warmup_steps) == ("symmetric", 5_000)


def test_an_unknown_field_of_diffusion_is_refused():
    config = idql_config()
    with config.unlocked():
        config.diffusion.steps = 5
    with pytest.raises(InputError, match=r"config field 'diffusion\.steps' does not exist"):
        from_config_dict(config)


def test_an_unknown_field_of_a_config_file_is_refused():
    config = base_config()
    with config.unlocked():
        config.tau = 0.005
    with pytest.raises(InputError, match="config field 'tau' does not exist"):
        from_config_dict(config)
