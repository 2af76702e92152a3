"""Logs, records, tables and pictures of runs.

What the training program needs, in the order of a run:

    write_config(run_dir, config, flags); write_record(run_dir, collect_record(...))
    log = open_run(run_dir, seeds, resume_at, [wandb_logger.connector(...)])
    log.log_metrics(...); log.log_evaluation(...); log.log_histograms(...)
    results = summarise(run_dir, wall_seconds); write_results(run_dir, results)
    print(format_summary(results)); draw_run(run_dir); log.close(results)
"""

from iql_jax.report.loggers import RunLog, lock_run, open_run
from iql_jax.report.pictures import draw_run
from iql_jax.report.progress import Progress
from iql_jax.report.records import collect_record, write_config, write_record
from iql_jax.report.runs import load_run
from iql_jax.report.statistics import bootstrap_interval
from iql_jax.report.summary import format_summary, summarise, write_results

__all__ = [
    "Progress",
    "RunLog",
    "bootstrap_interval",
    "collect_record",
    "draw_run",
    "format_summary",
    "load_run",
    "lock_run",
    "open_run",
    "summarise",
    "write_config",
    "write_record",
    "write_results",
]
