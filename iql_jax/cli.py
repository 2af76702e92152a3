"""The command line that both entry points share: flags, and errors as one line and status 2."""

import itertools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from absl import app, flags, logging
from ml_collections import config_dict, config_flags

from iql_jax.config import RunConfig, from_config_dict
from iql_jax.errors import InputError, did_you_mean

FLAGS = flags.FLAGS

# Flags that set the field of the configuration of the same name.
CONFIG_FLAGS = (
    "env_name",
    "dataset",
    "batch_size",
    "max_steps",
    "eval_episodes",
    "eval_interval",
    "log_interval",
    "precision",
)


class _ResumeParser(flags.ArgumentParser):
    """`--resume` alone means that there must be something to resume."""

    syntactic_help = "a bare --resume, or --resume=auto"

    def parse(self, argument: Any) -> str:
        choices = {True: "must", "true": "must", False: "never", "false": "never"}
        value = choices.get(argument, argument)
        if value not in ("never", "auto", "must"):
            raise ValueError("should be left out, bare, or auto")
        return value


class _ResumeFlag(flags.Flag):
    """A flag that, like a boolean one, may stand without a value."""

    def __init__(self, name: str, default: str, help_string: str):
        super().__init__(_ResumeParser(), flags.ArgumentSerializer(), name, default, help_string)
        self.boolean = True


# The flags of finetuning, which set the field of `config.online` of the same name.
ONLINE_FLAGS = (
    ("num_pretraining_steps", flags.DEFINE_integer, "Updates on the dataset before acting."),
    ("updates_per_step", flags.DEFINE_integer, "Updates after each environment step."),
    ("replay_buffer_size", flags.DEFINE_integer, "Rows of the buffer, the dataset included."),
    ("init_dataset_size", flags.DEFINE_integer, "Rows of the dataset to start with."),
    ("warmup_steps", flags.DEFINE_integer, "Environment steps before the first update."),
    ("sampling", flags.DEFINE_string, "Batches from the buffer: mixed, symmetric or online."),
    ("exploration_temperature", flags.DEFINE_float, "Scale of the policy's own noise."),
    ("action_noise", flags.DEFINE_float, "Standard deviation of noise added to actions."),
)


def define_online_flags() -> None:
    """Defines the flags that only finetuning has."""
    for name, define, text in ONLINE_FLAGS:
        define(name, None, text + " Default: the config's.")
    flags.DEFINE_string(
        "from_run", None, "Run directory of train_offline.py to start from, instead of pretraining."
    )


def define_team_flags() -> None:
    """Defines the flags by which several processes train one population."""
    flags.DEFINE_string(
        "coordinator_address", None, "HOST:PORT of the first of several processes of one run."
    )
    flags.DEFINE_integer("num_processes", 1, "How many processes train the members together.")
    flags.DEFINE_integer("process_id", 0, "Which of them this is, counted from 0.")


def join_team() -> None:
    """Joins the other processes of the run, where the flags name any; before JAX is used.

    Raises:
      InputError: they cannot be reached, or the flags do not fit together.
    """
    if FLAGS.coordinator_address is None:
        if FLAGS.num_processes != 1 or FLAGS.process_id != 0:
            raise InputError(
                "--num_processes and --process_id need --coordinator_address=HOST:PORT, where the "
                "first process listens"
            )
        return
    from iql_jax.training import team

    team.join(FLAGS.coordinator_address, FLAGS.num_processes, FLAGS.process_id)


def define_flags(default_config: str) -> None:
    """Defines the flags of an entry point.

    Args:
      default_config: path of the config file used when `--config` is not given.
    """
    config_flags.DEFINE_config_file(
        "config",
        default_config,
        "Config file; --config.FIELD=VALUE changes a field of it.",
        lock_config=True,
    )
    flags.DEFINE_string(
        "env_name",
        None,
        "Environment and dataset: a D4RL name (hopper-medium-v2), generated/..., or file/PATH. "
        "Default: the config's.",
    )
    flags.DEFINE_string(
        "dataset",
        None,
        "Dataset, where it is not the environment's own: file/PATH.hdf5, file/PATH.npz, d4rl/...",
    )
    flags.DEFINE_string(
        "save_dir", None, "Run directory. Default: a new one, runs/DATASET/AGENT/TIME."
    )
    flags.DEFINE_flag(
        _ResumeFlag(
            "resume",
            "never",
            "Continue the run in --save_dir. With =auto, start it if there is none yet.",
        )
    )
    flags.DEFINE_integer("seed", 0, "First seed.")
    flags.DEFINE_integer("num_seeds", 1, "Seeds trained at once, --seed and those after it.")
    flags.DEFINE_string(
        "sweep",
        None,
        "Grid of hyper-parameters trained at once, each point with every seed: "
        "'expectile=0.7,0.9; temperature=1,3,10'.",
    )
    flags.DEFINE_integer("eval_episodes", None, "Episodes per evaluation and member.")
    flags.DEFINE_list(
        "eval_candidates",
        [],
        "For idql: numbers of candidates that each evaluation scores too, each with an optional "
        "rule: 16,64,256 or 64:argmax,64:implicit.",
    )
    flags.DEFINE_integer("eval_interval", None, "Updates between evaluations.")
    flags.DEFINE_integer("log_interval", None, "Updates between rows of metrics.")
    flags.DEFINE_integer("batch_size", None, "Transitions per update.")
    flags.DEFINE_integer("max_steps", None, "Gradient updates.")
    flags.DEFINE_string("precision", None, "Of products: float32, tf32 or bfloat16_products.")
    flags.DEFINE_bool("evaluate", True, "Evaluate in the environment; --noevaluate needs none.")
    flags.DEFINE_enum(
        "evaluate_beside",
        "auto",
        ["auto", "always", "never"],
        "Evaluate a copy while training goes on; auto does on accelerators. Results are the same.",
    )
    flags.DEFINE_float("checkpoint_seconds", 60.0, "Time between checkpoints.", lower_bound=0.0)
    flags.DEFINE_enum(
        "on_nan", "stop", ["stop", "drop"], "When a member's training is no longer finite."
    )
    flags.DEFINE_enum(
        "wandb_mode",
        "auto",
        ["auto", "online", "offline", "disabled"],
        "Weights & Biases; auto is online where an API key is configured, else off.",
    )
    flags.DEFINE_string("wandb_project", "iql_jax", "Weights & Biases project.")
    flags.DEFINE_string("wandb_entity", None, "Weights & Biases user or team.")
    flags.DEFINE_string("wandb_group", None, "Weights & Biases group of the run's members.")
    flags.DEFINE_list("wandb_tags", [], "Weights & Biases tags.")
    flags.DEFINE_enum(
        "data_location",
        "device",
        ["device", "host"],
        "Where the dataset is while training; host is for data larger than the device.",
    )
    flags.DEFINE_bool("tensorboard", False, "Write event files for TensorBoard too.")
    flags.DEFINE_bool(
        "record_video", False, "Write a video of an evaluation episode at the end: episode.mp4."
    )


def run_config() -> RunConfig:
    """Returns the validated configuration after all flags.

    Raises:
      InputError: a value that is not allowed.
    """
    config: config_dict.ConfigDict = FLAGS.config
    names = (*CONFIG_FLAGS, *(name for name, _, _ in ONLINE_FLAGS if name in FLAGS))
    return from_config_dict(config, **{name: FLAGS[name].value for name in names})


def run_options() -> Any:
    """Returns how to carry the run out, as the flags say."""
    from iql_jax.report import wandb_logger
    from iql_jax.training.run_directory import RunOptions

    if FLAGS.record_video and "DISPLAY" not in os.environ:
        os.environ.setdefault("MUJOCO_GL", "egl")  # read when mujoco is imported
    return RunOptions(
        save_dir=FLAGS.save_dir,
        resume=FLAGS.resume,
        evaluate=FLAGS.evaluate,
        evaluate_beside=FLAGS.evaluate_beside,
        checkpoint_seconds=FLAGS.checkpoint_seconds,
        on_nan=FLAGS.on_nan,
        tensorboard=FLAGS.tensorboard,
        data_location=FLAGS.data_location,
        eval_candidates=tuple(FLAGS.eval_candidates),
        record_video=FLAGS.record_video,
        wandb=wandb_logger.Settings(
            mode=FLAGS.wandb_mode,
            project=FLAGS.wandb_project,
            entity=FLAGS.wandb_entity,
            group=FLAGS.wandb_group,
            tags=tuple(FLAGS.wandb_tags),
        ),
    )


def use_host_cores(num_members: int) -> None:
    """Makes one host device per core that the members can share evenly; before JAX is used.

    Where there is an accelerator this changes nothing: members go to its devices.
    """
    import jax

    from iql_jax.training.population import host_devices

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    jax.config.update("jax_num_cpu_devices", host_devices(num_members, cores or 1))


def main(body: Callable[[], int], recipes: Mapping[str, str], online: bool = False) -> None:
    """Runs an entry point: parses the flags, calls `body`, exits with its status.

    Bad input, in flags or found later, is one line on standard error and exit status 2.

    Args:
      body: returns the exit status.
      recipes: the config file's name used where `--config` is not given, by the family of
        `--env_name` (what stands before its first dash or slash); "" without `--env_name`.
      online: whether the flags of finetuning are wanted.
    """
    try:
        define_flags(str(_choose_config(sys.argv, recipes)))
        if online:
            define_online_flags()
        else:
            define_team_flags()
    # The config file and its overrides are read when the flag is defined.
    except (AttributeError, KeyError) as error:
        message = str(error).strip("'\"").removeprefix("\\'")
        _fail(f"unknown config field {message}")
    except (InputError, TypeError, ValueError, OSError) as error:
        _fail(str(error))
    for flag in FLAGS.get_flags_for_module(__name__):
        FLAGS.register_key_flag_for_module(sys.argv[0], flag)  # --help of the script shows them

    def guarded(argv: Sequence[str]) -> None:
        if FLAGS.verbosity == logging.INFO:  # which absl asks for where the user does not
            logging.set_verbosity(logging.WARNING)  # what backends JAX tried is nobody's concern
        if argv[1:]:
            _fail(f"unexpected argument {argv[1]!r}; every setting is a flag, see --help")
        try:
            sys.exit(body())
        except InputError as error:
            _fail(str(error))
        except KeyboardInterrupt:
            sys.exit(130)

    app.run(guarded, flags_parser=_parse)


def _choose_config(argv: Sequence[str], recipes: Mapping[str, str]) -> Path:
    """Returns the config file to use where `--config` is not given, after checking one that is.

    Raises:
      InputError: the file named is not there, or no recipe is known for the environment.
    """
    folder = Path(sys.argv[0]).resolve().parent / "configs"
    known = ", ".join(f"configs/{file.name}" for file in sorted(folder.glob("*.py")))
    given = _flag_value(argv, "config")
    if given is not None:
        if not Path(given.partition(":")[0]).is_file():  # config files may take an argument
            raise InputError(f"there is no config file {given!r}; this project has {known}")
        return folder / recipes[""]
    env_name = _flag_value(argv, "env_name")
    if env_name is None:
        return folder / recipes[""]
    family = env_name.removeprefix("d4rl/").removeprefix("generated/").partition("-")[0]
    family = family.partition("/")[0]  # of ogbench/... and auctionnet/...
    if family not in recipes:
        raise InputError(
            f"no config is known for --env_name={env_name}; name one with --config: {known}"
            + did_you_mean(family, [name for name in recipes if name])
        )
    print(f"config       configs/{recipes[family]}, for {env_name}; --config names another")
    return folder / recipes[family]


def _flag_value(argv: Sequence[str], name: str) -> str | None:
    """Returns the value of a flag before flags are defined: as `--name=value` or `--name value`."""
    for text, following in itertools.zip_longest(argv, argv[1:]):
        if text == f"--{name}":
            return following
        if text.startswith(f"--{name}="):
            return text.partition("=")[2]
    return None


def _parse(argv: Sequence[str]) -> list[str]:
    try:
        return FLAGS(argv)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    # ml_collections hands on messages with their quotes and line breaks escaped.
    text = message.replace("\\n", "; ").replace("\\'", "")
    print("error: " + " ".join(text.split()), file=sys.stderr)
    sys.exit(2)
