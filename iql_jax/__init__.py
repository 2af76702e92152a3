"""Implicit Q-Learning and its kin in JAX."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iql_jax.policy import Policy, load_policy

__all__ = ["Policy", "load_policy"]


def __getattr__(name: str) -> Any:
    """Returns what is exported, imported when first used: importing iql_jax stays cheap."""
    if name not in __all__:
        raise AttributeError(f"module 'iql_jax' has no attribute {name!r}")
    from iql_jax import policy

    return getattr(policy, name)
