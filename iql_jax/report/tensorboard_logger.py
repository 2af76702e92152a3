"""TensorBoard: one event directory per member under `tensorboard/` of the run directory."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from iql_jax.errors import InputError
from iql_jax.report.loggers import EVALUATION_VALUES, Row, Sink

_COORDINATES = ("update", "member", "seed")


def connector(
    run_dir: str | Path, seeds: Sequence[int], resume_at: int | None = None
) -> Callable[[], tuple[str, Sink]]:
    """Return what `open_run` calls to start logging for TensorBoard.

    Args:
      run_dir: the run directory.
      seeds: the seed of every member.
      resume_at: as for `open_run`; what lies after it is hidden, since it is written again.

    Raises:
      InputError: if tensorboardX is not installed.
    """
    try:
        import tensorboardX  # noqa: F401
    except ImportError as error:
        raise InputError(
            "--tensorboard needs the package tensorboardX; install it with "
            "'pip install tensorboardX'"
        ) from error
    return lambda: ("TensorBoard", TensorBoardSink(Path(run_dir), seeds, resume_at))


class TensorBoardSink:
    """Rows in TensorBoard's event files, steps being gradient updates; it shows no videos."""

    def __init__(self, run_dir: Path, seeds: Sequence[int], resume_at: int | None) -> None:
        import tensorboardX

        purge = None if resume_at is None else resume_at + 1
        self._writers = [
            tensorboardX.SummaryWriter(
                str(run_dir / "tensorboard" / f"member{member}_seed{seed}"),
                purge_step=purge,
                filename_suffix=f".from{resume_at or 0}",  # never the file of an earlier start
            )
            for member, seed in enumerate(seeds)
        ]

    def metrics(self, rows: Sequence[Row]) -> None:
        """Write one scalar per name."""
        for row in rows:
            self._scalars(row, "", [name for name in row if name not in _COORDINATES])

    def evaluation(self, rows: Sequence[Row]) -> None:
        """Write one scalar per name under `evaluation/`."""
        for row in rows:
            self._scalars(row, "evaluation/", [name for name in EVALUATION_VALUES if name in row])

    def histograms(self, rows: Sequence[Row]) -> None:
        """Write histograms under `distribution/`."""
        for row in rows:
            edges, counts = np.array(row["edges"]), np.array(row["counts"])
            middles = (edges[1:] + edges[:-1]) / 2
            self._writers[row["member"]].add_histogram_raw(
                f"distribution/{row['name']}",
                min=edges[0],
                max=edges[-1],
                num=int(counts.sum()),
                sum=float(counts @ middles),
                sum_squares=float(counts @ middles**2),
                bucket_limits=edges[1:].tolist(),
                bucket_counts=counts.tolist(),
                global_step=row["update"],
            )

    def media(self, update: int, name: str, path: Path, member: int | None) -> None:
        """Write a picture; videos are not shown here."""
        if path.suffix == ".png":
            from matplotlib import image

            pixels = image.imread(path)
            self._writers[member or 0].add_image(f"media/{name}", pixels, update, dataformats="HWC")

    def close(self, results: Mapping[str, Any] | None, failed: bool) -> None:
        """Write the table of results as text and close the files."""
        if results is not None and results.get("last"):
            from iql_jax.report.summary import format_summary

            text = "\n".join("    " + line for line in format_summary(results).splitlines())
            self._writers[0].add_text("results", text, results["updates"])
        for writer in self._writers:
            writer.close()

    def _scalars(self, row: Row, prefix: str, names: Sequence[str]) -> None:
        for name in names:
            value = row[name]
            # TensorBoard draws nothing for NaN; the files keep it.
            if value is not None and math.isfinite(value):
                self._writers[row["member"]].add_scalar(prefix + name, value, row["update"])
        self._writers[row["member"]].flush()
