"""Tables and comparisons of runs of known scores, and where published scores may stand."""

import csv
import io

import pytest

from iql_jax.errors import InputError
from iql_jax.report import groups, published, runs, tables


def grouped(*paths, by=None):
    return groups.group_runs([runs.load_run(path) for path in paths], by)


def rows_of(text):
    return [line.split() for line in text.splitlines()]


def test_runs_of_one_method_are_pooled_and_settings_that_differ_name_methods(make_run):
    found = grouped(
        make_run("a", [[10], [20]]),
        make_run("b", [[30], [40], [90]], eval_episodes=5),
        make_run("c", [[1], [2]], agent="bc"),
        make_run("d", [[5], [6]], dataset="file/x.hdf5", expectile=0.7),
    )
    assert [(one.method, one.dataset) for one in found] == [
        ("iql", "generated/maze-v0"),
        ("bc", "generated/maze-v0"),
        ("iql", "file/x.hdf5"),  # a setting that differs between datasets is no other method
    ]
    assert found[0].scores.updates.tolist() == [1000, 2000]  # those that both evaluated
    assert found[0].scores.values.tolist() == [[10, 30], [20, 40]]
    differ = grouped(make_run("e", [[1]], expectile=0.7), make_run("f", [[2]], expectile=0.8))
    assert [one.method for one in differ] == ["iql expectile=0.7", "iql expectile=0.8"]
    online = {"max_steps": 50, "online": {"sampling": "mixed"}}
    tuned = grouped(make_run("h", [[1]]), make_run("i", [[2]], online_from=500, **online))
    assert [one.method for one in tuned] == ["iql", "iql finetuned"]
    by_name = grouped(make_run("g", [[1]], expectile=0.7), by="expectile")
    assert by_name[0].method == "expectile=0.7"


def test_runs_that_cannot_be_pooled_are_named(make_run):
    first = make_run("a", [[10]])
    other = make_run("b", [[10]], label="normalised score")
    with pytest.raises(InputError, match=r"a', '.*b' measure different things"):
        grouped(first, other)
    with pytest.raises(InputError, match=r"has no setting 'tau'; it has agent, env_name"):
        grouped(first, by="tau")
    (other / "evaluations.csv").unlink()
    with pytest.raises(InputError, match=r"b' has no evaluations yet"):
        grouped(first, other)


def test_results_table_in_every_format(make_run):
    found = grouped(make_run("a", [[10, 30], [15, 25]]), make_run("b", [[5]], agent="bc"))
    text = tables.results_table(found)
    header, iql, bc, *notes = text.splitlines()
    assert iql.split() == [
        "generated/maze-v0",
        "iql",
        "success",
        "rate",
        "(%)",
        "2",
        "20",
        "2,000",
        "20.0",
        "[15.0,",
        "25.0]",
        "20.0",
        "[10.0,",
        "30.0]",
        "1,000",
    ]
    assert bc.split()[-6:] == ["1,000", "5.0", "-", "5.0", "-", "1,000"]
    assert "published" not in header
    assert notes == ["data: generated/maze-v0: made for a test"]

    rows = list(csv.reader(io.StringIO(tables.results_table(found, "csv"))))
    assert rows[1][0] == "generated/maze-v0"
    assert rows[1][5:8] == ["2000", "20.0", "[15.0, 25.0]"]
    markdown = tables.results_table(found, "markdown").splitlines()
    assert markdown[0].startswith("| data | method | measure | members |")
    assert markdown[1].startswith("| --- | --- | --- | ---: |")
    assert len({line.count("|") for line in markdown[:4]}) == 1
    latex = tables.results_table(found, "latex")
    assert r"success rate (\%)" in latex
    assert latex.startswith(r"\begin{tabular}{lllrrrrrrrr}")
    with pytest.raises(InputError, match="'html' is not known; choose one of text, markdown"):
        tables.results_table(found, "html")


def test_published_scores_stand_only_beside_d4rls_own_data(make_run):
    own = make_run("own", [[60, 62]], dataset="d4rl/hopper-medium-v2", label="normalised score")
    text = tables.results_table(grouped(own))
    assert "IQL paper 66.3; CORL IQL 67.5; IDQL paper 63.1*" in text
    assert "https://arxiv.org/abs/2110.06169" in text
    assert "* taken second-hand, not compared with the publication" in text
    assert "IQL paper" not in tables.results_table(grouped(own), with_published=False)
    for name in ("generated/hopper-medium-v2", "file/hopper-medium-v2", "hopper-medium-v2"):
        assert published.lookup(name) == []
        other = make_run(f"x/{name}", [[60, 62]], dataset=name)
        assert "IQL paper" not in tables.results_table(grouped(other))


def test_published_scores_after_finetuning(make_run):
    path = make_run("a", [[60], [90]], dataset="d4rl/antmaze-umaze-v2", online_from=1000)
    text = tables.results_table(grouped(path))
    assert "CORL IQL 77.0 to 96.5" in text
    assert "CORL IQL 77.0 to 96.5*" not in text
    offline = make_run("b", [[60]], dataset="d4rl/antmaze-umaze-v2")
    assert "CORL IQL 77.0\n" in tables.results_table(grouped(offline))


def test_published_numbers_are_those_of_the_reference():
    def total(names, recipe):
        scores = [
            score.score
            for name in names
            for score in published.lookup(f"d4rl/{name}")
            if score.recipe == recipe
        ]
        assert len(scores) == len(names)
        return pytest.approx(sum(scores), abs=1e-9)

    locomotion = [
        f"{robot}-{data}-v2"
        for robot in ("halfcheetah", "hopper", "walker2d")
        for data in ("medium", "medium-replay", "medium-expert")
    ]
    mazes = [
        f"antmaze-{maze}-v0"
        for maze in [
            "umaze",
            "umaze-diverse",
            "medium-play",
            "medium-diverse",
            "large-play",
            "large-diverse",
        ]
    ]
    assert total(locomotion, "IQL paper") == 692.6  # the total printed with them is 692.4
    assert total(mazes, "IQL paper") == 378.0
    assert published.lookup("d4rl/antmaze-umaze-v0") != published.lookup("d4rl/antmaze-umaze-v2")


def test_comparison_over_common_data(make_run):
    paths = [
        make_run("a", [[10, 20, 30, 40]]),
        make_run("b", [[50, 60, 70, 80]], dataset="generated/other-v0"),
        make_run("c", [[5, 6, 7, 8]], agent="bc"),
        make_run("d", [[45, 65, 66, 67]], agent="bc", dataset="generated/other-v0"),
        make_run("e", [[1, 2]], dataset="generated/third-v0"),
    ]
    text = tables.comparison_table(grouped(*paths))
    lines = rows_of(text)
    assert lines[1][:4] == ["iql", "2", "8", "45.0"]
    assert lines[2][:4] == ["bc", "2", "8", "33.6"]
    assert lines[1][6] == "45.0"  # the mean of the middle half: 30, 40, 50, 60
    # All of a beats all of c; of b against d: 50 beats 1, 60 beats 1, 70 and 80 beat 4.
    assert lines[5][:4] == ["iql", ">", "bc", "0.81"]
    assert "generated/maze-v0, generated/other-v0; 95% intervals" in text
    assert "left out, not run with every method: generated/third-v0" in text


def test_best_scores_are_compared_when_asked(make_run):
    found = grouped(make_run("a", [[90], [10]]), make_run("b", [[50], [50]], agent="bc"))
    assert ["iql", ">", "bc", "0.00", "-"] in rows_of(tables.comparison_table(found))
    best = tables.comparison_table(found, "best")
    assert ["iql", ">", "bc", "1.00", "-"] in rows_of(best)
    assert "- : no interval, a method has only one member" in best


def test_comparisons_that_mean_nothing_are_refused(make_run):
    iql = make_run("a", [[10]])
    with pytest.raises(InputError, match=r"needs two methods or more and found one \(iql\)"):
        tables.comparison_table(grouped(iql))
    bc = make_run("b", [[1]], agent="bc", dataset="generated/other-v0")
    with pytest.raises(InputError, match="no dataset was run with all of iql, bc"):
        tables.comparison_table(grouped(iql, bc))
    nan = float("nan")
    returns = [
        make_run(f"r/{agent}{data}", [[nan]], agent=agent, dataset=data)
        for agent in ("iql", "bc")
        for data in ("one", "two")
    ]
    with pytest.raises(InputError, match="returns of different datasets cannot be averaged"):
        tables.comparison_table(grouped(*returns))
