"""A video of an evaluation episode, as the environment itself draws it."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from iql_jax import envs
from iql_jax.errors import InputError
from iql_jax.training.evaluation import Evaluator

FILE = "episode.mp4"
_INSTALL = 'pip install "imageio-ffmpeg>=0.5,<0.7"'
_FPS = 25.0  # frames per second aimed at; faster environments skip frames, to stay in real time
_LEAST_FPS = 20.0  # slower ones are shown faster than they are


def check(env_name: str | None) -> None:
    """Returns if a video can be made at the end, since nobody wants to learn only then.

    Args:
      env_name: the environment, None if there is none.

    Raises:
      InputError: there is no environment, it does not draw itself, or a package is missing.
    """
    if env_name is None:
        raise InputError("--record_video shows an evaluation episode; leave out --noevaluate")
    _writer_package()
    with _drawing(env_name) as env:
        env.reset(seed=0)
        _frame(env, env_name)


def record(
    run_dir: Path, env_name: str, evaluator: Evaluator, states: Any, update: int, member: int
) -> Path:
    """Returns the path of a video of the first episode of a member's evaluation.

    Args:
      run_dir: where `episode.mp4` goes, in place of an older one.
      env_name: the environment.
      evaluator: knows how members act, and which episodes they play.
      states: states of P members.
      update: the number of updates done.
      member: whose episode.

    Raises:
      InputError: the environment does not draw itself, or the file cannot be written.
    """
    seed, act = evaluator.episode(states, update, member)
    with _drawing(env_name) as env:
        stride, fps = pace(env)
        return _write(run_dir / FILE, _frames(env, env_name, seed, act, stride), fps)


def pace(env: gymnasium.Env) -> tuple[int, float]:
    """Returns how many steps lie between two frames, and frames per second, for real time."""
    dt = getattr(env.unwrapped, "dt", None)
    steps_per_second = 1.0 / dt if dt else float(env.metadata.get("render_fps") or _FPS)
    stride = max(1, round(steps_per_second / _FPS))
    return stride, max(steps_per_second / stride, _LEAST_FPS)


@contextlib.contextmanager
def _drawing(env_name: str) -> Iterator[gymnasium.Env]:
    env = envs.make(env_name, render_mode="rgb_array")
    try:
        yield env
    finally:
        env.close()


def _frames(
    env: gymnasium.Env,
    env_name: str,
    seed: int,
    act: Callable[[np.ndarray, int], np.ndarray],
    stride: int,
) -> Iterator[np.ndarray]:
    """Yields u8[H, W, 3], the first, every so many steps, and the last."""
    observation, _ = env.reset(seed=seed)
    yield _frame(env, env_name)
    step, over = 0, False
    while not over:
        action = act(np.asarray(observation, np.float32), step)
        observation, _, terminated, truncated, _ = env.step(action)
        over = terminated or truncated
        step += 1
        if over or step % stride == 0:
            yield _frame(env, env_name)


def _frame(env: gymnasium.Env, env_name: str) -> np.ndarray:
    """Returns what the environment looks like now: u8[H, W, 3], H and W even, as codecs want.

    Raises:
      InputError: it does not draw itself.
    """
    try:
        frame: Any = env.render()
        height, width = np.asarray(frame).shape[:2]
    except Exception as error:  # graphics fail in as many ways as there are drivers
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"environment {env_name!r} cannot be drawn for --record_video: {reason}; on a machine "
            "without a screen set MUJOCO_GL=egl (or osmesa)"
        ) from error
    return np.ascontiguousarray(frame[: height // 2 * 2, : width // 2 * 2], np.uint8)


def _writer_package() -> Any:
    try:
        import imageio_ffmpeg

        imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise InputError(f"--record_video needs imageio-ffmpeg ({error}): {_INSTALL}") from error
    return imageio_ffmpeg


def _write(path: Path, frames: Iterator[np.ndarray], fps: float) -> Path:
    """Returns `path`, replaced in one step by an mp4 of the frames.

    Raises:
      InputError: it cannot be written.
    """
    first = next(frames)
    partial = path.with_name(f"partial.{path.name}")  # the ending tells the format
    writer = _writer_package().write_frames(
        str(partial), (first.shape[1], first.shape[0]), fps=fps, quality=8, macro_block_size=2
    )
    try:
        writer.send(None)
        writer.send(first)
        for frame in frames:
            writer.send(frame)
        writer.close()
        os.replace(partial, path)
    except OSError as error:
        raise InputError(f"the video '{path}' cannot be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return path
