"""The README's tables are what the results files say."""

import pytest

from benchmarks import common, table

SPREAD = {"median": 2.0, "min": 1.0, "max": 3.0}
PROGRAM = SPREAD | {
    "rounds_us": [1.0, 2.0, 3.0],
    "flops_per_update": 572e6,
    "compile_seconds": 3.0,
    "peak_bytes": 5e8,
    "of_floor": SPREAD,
    "to_ours": SPREAD,
    "counterpart": "ours",
    "differs": "Much.",
}
RESULTS = {
    "update_throughput": {"sizes": [{"hidden_dims": [256, 256], "programs": {"1 x 1": PROGRAM}}]},
    "peers": {"programs": {"ours": PROGRAM}, "failures": {"CORL": "no torch"}},
    "online_loop": {
        "members": [1],
        "programs": {
            "authors": PROGRAM,
            "ours, 1": PROGRAM
            | {"other": SPREAD, "other_share": SPREAD, "authors_to_ours": SPREAD},
            "update, 1": PROGRAM,
            "environment, 1": PROGRAM,
        },
    },
    "end_to_end": {
        "variants": {
            "with evaluation": {
                "phases": dict.fromkeys(table.end_to_end.PHASES, SPREAD),
                "total": SPREAD,
                "million_seconds": dict.fromkeys(table.end_to_end.PHASES, 60.0),
            }
        }
    },
    "scaling": {"rows": {"points": [PROGRAM | {"rows": 1000}], "left_out": []}},
    "kernel_count": {"members": {"1": {"launches": 4, "kernels": 3, "copies": 1, "products": 2}}},
    "lockstep": {
        "environments": {
            "a": [{"num_envs": 10, "variants": {"1 thread": SPREAD}, "cores": SPREAD}],
        }
    },
}


def result(name, hardware="a CPU", date="2026-01-01T00:00:00"):
    machine = {
        "date": date,
        "command": f"python -m benchmarks.{name}",
        "load_average": 0.1,
        "versions": {"python": "3.11.7", "jax": "0.10.2"},
        "git": {"commit": "0123456789abcdef", "modified": False},
    }
    return {
        "benchmark": name,
        "hardware": hardware,
        "flags": {"max_steps": "20000", "batch_size": "256", "note": "", "env_name": "a maze"},
        "machine": machine,
        "results": RESULTS[name],
    }


def test_the_readme_is_up_to_date():
    text = table.README.read_text()
    assert table.fill(text, table.newest(common.RESULTS)) == text


@pytest.mark.parametrize("name", sorted(table.TABLES))
def test_every_result_has_a_table(name):
    text = table.section(result(name))
    assert text.startswith("a CPU; Python 3.11.7, jax 0.10.2; commit 0123456789; 2026-01-01")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == (4 if name == "online_loop" else 3)
    assert len({row.count("|") for row in rows}) == 1


def test_the_newest_of_each_hardware_counts(tmp_path):
    kinds = [("a", "2026-01-02"), ("a", "2026-01-01"), ("b", "2026-01-01")]
    for i, (hardware, date) in enumerate(kinds):
        value = result("peers", hardware, date)
        common.records.write_json(tmp_path / f"{i}.json", value)
    found = [(item["hardware"], item["machine"]["date"]) for item in table.newest(tmp_path)]
    assert found == [("a", "2026-01-02"), ("b", "2026-01-01")]


def test_tables_replace_what_is_between_the_marks():
    text = "".join(f"<!-- {name} -->\nold\n<!-- end {name} -->\n" for name in table.TABLES)
    filled = table.fill(text, [result("peers")])
    assert "old" not in filled and "CORL did not run: no torch" in filled
    assert filled.count("Not measured yet.") == len(table.TABLES) - 1
    with pytest.raises(ValueError, match="lacks the marks of peers"):
        table.fill(text.replace("<!-- peers", "<!-- others"), [])
