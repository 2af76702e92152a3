"""The command line: what it writes, and one line with exit status 2 for bad input."""

import subprocess
import sys

import pytest

from iql_jax.report.__main__ import main


def test_plot_draws_every_run_and_their_comparison(make_run, tmp_path, capsys):
    first, second = make_run("a", [[1, 2]]), make_run("b", [[3, 4]], agent="bc")
    overview = tmp_path / "overview.png"
    assert main(["plot", str(first), str(second), "--output", str(overview)]) == 0
    written = capsys.readouterr().out.splitlines()
    assert written[-1] == str(overview)
    assert f"{first}/learning_curves.png" in written
    assert f"{second}/distributions.png" in written
    assert overview.stat().st_size > 10_000


def test_table_and_compare_print_or_write(make_run, tmp_path, capsys):
    paths = [str(make_run("a", [[1, 2]])), str(make_run("b", [[3, 4]], agent="bc"))]
    assert main(["table", *paths, "--format", "csv"]) == 0
    assert capsys.readouterr().out.startswith("data,method,measure,")
    output = tmp_path / "table.md"
    assert main(["compare", *paths, "--format", "markdown", "--output", str(output)]) == 0
    assert "| iql > bc | 0.00 | [0.00, 0.00] |" in output.read_text()
    assert main(["compare", *paths, "--by", "agent", "--score", "best"]) == 0
    assert "agent=iql > agent=bc" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["plot", "table", "compare"])
def test_bad_input_is_one_line(command, make_run, tmp_path, capsys):
    empty = make_run("empty", [[1]])
    (empty / "evaluations.csv").unlink()
    cases = {
        str(tmp_path / "nowhere"): "no directory",
        str(empty): "has no evaluations yet",
        str(empty / ".."): "has no evaluations yet",
    }
    for path, message in cases.items():
        assert main([command, path]) == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err.startswith("error: ")
        assert message in shown.err
        assert shown.err.count("\n") == 1


def test_the_module_exits_with_status_2(repository, tmp_path):
    command = [sys.executable, "-m", "iql_jax.report", "table", str(tmp_path)]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == (
        f"error: '{tmp_path}' is not a run directory: it has no config.json; name the --save_dir "
        "of a run\n"
    )
