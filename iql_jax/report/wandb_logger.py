"""Weights & Biases: one run per member in one group, continued when the run is resumed.

Metrics keep their names (`training/`, `evaluation/`, `data/`, `timing/`) against `update`; online,
evaluations are also logged as `online/...` against `env_steps`. The W&B step is the update; a
resumed run does not send again the steps that the server has. After a kill the dashboard can lack
what was logged at the very last of those steps; the files of the run directory never do.
"""

import configparser
import contextlib
import dataclasses
import json
import logging
import netrc
import os
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from iql_jax.errors import InputError
from iql_jax.report.files import write_atomic
from iql_jax.report.loggers import EVALUATION_VALUES, Row, Sink
from iql_jax.report.records import to_json

MODES = ("auto", "online", "offline", "disabled")
INIT_SECONDS = 20  # without a network the client would try for half a minute or more
FINISH_SECONDS = 60  # for all members together


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to log to Weights & Biases.

    Attributes:
      mode: one of `MODES`; auto is online where an API key is configured, else off.
      project: the W&B project.
      entity: the user or team; the default of the key if None.
      group: the group that the members' runs share; the name of the run directory if None.
      tags: tags of every run.
    """

    mode: str = "auto"
    project: str = "iql_jax"
    entity: str | None = None
    group: str | None = None
    tags: Sequence[str] = ()


def resolve_mode(mode: str, environ: Mapping[str, str] | None = None) -> tuple[str, str | None]:
    """Return (online, offline or disabled, a line of hint or None).

    `auto` follows `WANDB_MODE` where the user has set it.

    Raises:
      InputError: if `mode` is unknown, or online is asked for and no API key is configured.
    """
    environ = os.environ if environ is None else environ
    if mode not in MODES:
        raise InputError(f"--wandb_mode='{mode}' is not known; choose one of {', '.join(MODES)}")
    if mode == "auto":
        asked = environ.get("WANDB_MODE", "")
        if asked in MODES:
            mode = asked
    if mode in ("offline", "disabled"):
        return mode, None
    if _has_key(environ):
        return "online", None
    if mode == "online":
        raise InputError(
            "--wandb_mode=online needs an API key and none is configured; run 'wandb login', set "
            "WANDB_API_KEY, or use --wandb_mode=offline"
        )
    return "disabled", (
        "W&B is off: no API key is configured ('wandb login' turns it on, --wandb_mode=disabled "
        "silences this line)"
    )


def _has_key(environ: Mapping[str, str]) -> bool:
    """Return whether the client would find credentials, without importing it."""
    if environ.get("WANDB_API_KEY") or environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    home = Path(environ.get("HOME", "~")).expanduser()
    config = Path(environ.get("WANDB_CONFIG_DIR") or home / ".config" / "wandb")
    settings = configparser.ConfigParser(interpolation=None)
    with contextlib.suppress(configparser.Error):  # the client says what is wrong when it is used
        settings.read(config / "settings")
    if settings.get("default", "api_key", fallback=""):
        return True
    url = environ.get("WANDB_BASE_URL") or settings.get("default", "base_url", fallback="")
    host = urlsplit(url or "https://api.wandb.ai").netloc
    candidates = [environ["NETRC"]] if environ.get("NETRC") else [home / ".netrc", home / "_netrc"]
    for path in candidates:
        try:
            found = netrc.netrc(path).authenticators(host)
        except (OSError, netrc.NetrcParseError):
            continue
        if found and found[2]:
            return True
    return False


def connector(
    run_dir: str | Path,
    seeds: Sequence[int],
    settings: Settings,
    config: Mapping[str, Any],
    say: Callable[[str], None] | None = None,
) -> Callable[[], tuple[str, Sink] | None]:
    """Return what `open_run` calls to start logging; it returns None where W&B is off.

    The mode is resolved here, so that a wrong one fails before anything is written.

    Args:
      run_dir: the run directory; W&B's own files go into its folder `wandb`.
      seeds: the seed of every member.
      settings: mode, project and so on.
      config: all that describes the run: configuration, flags, record.
      say: prints one line; to standard error by default.

    Raises:
      InputError: if the mode is wrong, or wandb is asked for and not installed.
    """
    say = say or (lambda text: print(text, file=sys.stderr))
    mode, hint = resolve_mode(settings.mode)
    if hint:
        say(hint)
    if mode == "disabled":
        return lambda: None
    try:
        import wandb  # noqa: F401
    except ImportError as error:
        if settings.mode == "auto":
            say("W&B is off: the package is not installed ('pip install wandb' adds it)")
            return lambda: None
        raise InputError(
            f"--wandb_mode={settings.mode} needs the package wandb; install it with "
            "'pip install wandb'"
        ) from error

    def connect() -> tuple[str, Sink] | None:
        try:
            return "W&B", WandbSink(Path(run_dir), seeds, settings, mode, config, say)
        except Exception as error:
            reason = " ".join(str(error).split())
            say(f"warning: W&B is off, it could not start ({reason}); training goes on")
            return None

    return connect


def run_ids(run_dir: Path, settings: Settings, members: int) -> list[str]:
    """Return the id of every member's W&B run: those in `wandb_ids.json`, or new ones put there."""
    path = run_dir / "wandb_ids.json"
    ids: list[str] = []
    if path.is_file():
        ids = json.loads(path.read_text())["ids"]
    if len(ids) < members:
        ids = ids + [secrets.token_hex(4) for _ in range(members - len(ids))]
        known = {"project": settings.project, "entity": settings.entity, "ids": ids}
        write_atomic(path, json.dumps(known, indent=2) + "\n")
    return ids


class WandbSink:
    """Rows on W&B dashboards; see the head of this file."""

    def __init__(
        self,
        run_dir: Path,
        seeds: Sequence[int],
        settings: Settings,
        mode: str,
        config: Mapping[str, Any],
        say: Callable[[str], None],
    ) -> None:
        """Start or continue one run per member; offline if the server does not answer."""
        import wandb

        # Its telemetry would print errors of its own when the network is gone.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._wandb: Any = wandb
        self._directory, self._say = run_dir, say
        wandb.setup(settings=wandb.Settings(silent=True))
        group = settings.group or run_dir.resolve().name
        ids = run_ids(run_dir, settings, len(seeds))
        members = [
            {
                "project": settings.project,
                "entity": settings.entity,
                "group": group,
                "name": f"{group}-seed{seed}",
                "tags": list(settings.tags),
                "id": ids[member],
                "config": to_json({**config, "member": member, "seed": int(seed)}),
                "dir": os.fspath(run_dir),
            }
            for member, seed in enumerate(seeds)
        ]
        try:
            self._runs = self._start(mode, members)
        except wandb.errors.Error as error:
            if mode == "offline":
                raise
            mode = "offline"
            reason = " ".join(str(error).split())
            say(
                f"warning: W&B could not start online ({reason}); logging offline, "
                f"'wandb sync {run_dir}/wandb/offline-run-*' uploads it later"
            )
            wandb.teardown()  # the failed attempt would still hold the id of its run
            wandb.setup(settings=wandb.Settings(silent=True))
            self._runs = self._start(mode, members)
        where = self._runs[0].url if mode == "online" else run_dir / "wandb"
        say(f"W&B: {mode}, {len(seeds)} run{'s' * (len(seeds) > 1)} in group '{group}', {where}")

    def _start(self, mode: str, members: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Return the started runs of all `members`, given as arguments of `wandb.init`."""
        # Offline there is nothing to ask; the same id joins the pieces when they are uploaded.
        resume = {"resume": "allow"} if mode == "online" else {}
        runs = []
        for member, arguments in enumerate(members):
            settings = self._wandb.Settings(
                silent=True,
                console="off",  # the members would each keep the same terminal output
                init_timeout=INIT_SECONDS,
                login_timeout=INIT_SECONDS,
                finish_timeout=FINISH_SECONDS / len(members),
                finish_timeout_raises=True,
                x_disable_stats=member > 0,  # one machine, measured once
            )
            # `create_new` because several runs live in this process.
            run = self._wandb.init(
                mode=mode, reinit="create_new", settings=settings, **resume, **arguments
            )
            run.define_metric("update")
            run.define_metric("env_steps")
            run.define_metric("*", step_metric="update")
            run.define_metric("online/*", step_metric="env_steps")
            runs.append(run)
        return runs

    def metrics(self, rows: Sequence[Row]) -> None:
        """Log one row per member."""
        for row in rows:
            self._log(row["member"], row["update"], _without(row, ("member", "seed")))

    def evaluation(self, rows: Sequence[Row]) -> None:
        """Log one row per member under `evaluation/`, online also under `online/`."""
        for row in rows:
            known = {name: row[name] for name in EVALUATION_VALUES if name in row}
            logged = {f"evaluation/{name}": value for name, value in known.items()}
            if "env_steps" in row:
                logged["env_steps"] = row["env_steps"]
                logged |= {f"online/{name}": value for name, value in known.items()}
            self._log(row["member"], row["update"], {"update": row["update"], **logged})

    def histograms(self, rows: Sequence[Row]) -> None:
        """Log histograms under `distribution/`."""
        for row in rows:
            histogram = self._wandb.Histogram(np_histogram=(row["counts"], row["edges"]))
            logged = {"update": row["update"], f"distribution/{row['name']}": histogram}
            self._log(row["member"], row["update"], logged)

    def media(self, update: int, name: str, path: Path, member: int | None) -> None:
        """Log a picture or a video; one of all members goes to the first."""
        if path.suffix == ".png":
            shown = self._wandb.Image(os.fspath(path))
        else:
            shown = self._wandb.Video(os.fspath(path), format=path.suffix.lstrip("."))
        self._log(member or 0, update, {"update": update, f"media/{name}": shown})

    def close(self, results: Mapping[str, Any] | None, failed: bool) -> None:
        """Log the table of results and finish the runs, within `FINISH_SECONDS` in all.

        Without a network, the table adds the twenty seconds after which the client gives up.
        """
        late = 0
        if results is not None and results.get("last"):
            try:
                for member, run in enumerate(self._runs):
                    self._results(member, run, results)
            except Exception:  # a table is an artifact, which the client cannot queue
                late += 1
        for run in self._runs:
            try:
                run.finish(exit_code=1 if failed else 0)
            except TimeoutError:
                late += 1
        if late:
            self._say(
                f"warning: W&B has not received everything; 'wandb sync "
                f"{self._directory}/wandb/*run-*' uploads the rest"
            )

    def _results(self, member: int, run: Any, results: Mapping[str, Any]) -> None:
        columns = ["score", "update", "mean", "low", "high", "this member", "episodes"]
        table = self._wandb.Table(columns=columns)
        for which in ("last", "best"):
            score = results[which]
            own = score["members"][member] if member < len(score["members"]) else None
            cells = [score[name] for name in ("update", "mean", "low", "high")]
            table.add_data(f"{which} {results['score_label']}", *cells, own, score["episodes"])
            run.summary[f"results/{which}_score"] = own
            run.summary[f"results/{which}_score_mean"] = score["mean"]
        self._log(member, results["updates"], {"update": results["updates"], "results": table})

    def _log(self, member: int, update: int, values: Mapping[str, Any]) -> None:
        run = self._runs[member]
        if update >= run.starting_step:  # the server has the steps before, from before a resume
            run.log(dict(values), step=update)


def _without(row: Row, names: Sequence[str]) -> Row:
    return {name: value for name, value in row.items() if name not in names}
