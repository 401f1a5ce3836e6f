"""What the benchmark of the families computes from its times, and that it draws them."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from qingformer.analysis import count_parameters, encoder_cost

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def families(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import families

    yield families
    for name in ("families", "encoder", "common"):
        sys.modules.pop(name, None)


def rows(families, name, a=10.0, b=0.01, lengths=(64, 256, 1024)):
    """Rows of a machine that needs a + b n microseconds for a token."""
    options = SimpleNamespace(lengths=list(lengths), tokens=1024, quick=False)
    made = []
    for length in lengths:
        times = (1e-3 * 1024 * (a + b * length), 1.0)
        made.append(families.make_row(name, length, times, 2**20 * length, options) | {"times_floor": 1.0})
    return made


def test_the_fit_finds_the_length_of_equal_parts(families):
    fit = families.measured_share(rows(families, "bert"))
    assert fit["a"] == pytest.approx(10)
    assert fit["b"] == pytest.approx(0.01)
    assert fit["threshold"] == pytest.approx(1000)
    assert fit["error"] < 1e-6
    assert families.measured_share(rows(families, "bert", b=-0.001))["threshold"] is None


def test_rows_hold_rates_and_predicted_operations(families):
    row = rows(families, "bert")[1]
    assert row["batch"] == 4
    assert row["tokens_per_second"] == pytest.approx(1e6 / 12.56)
    assert row["sequences_per_second"] == pytest.approx(1e6 / 12.56 / 256)
    config = families.config_of("bert", 1024, quick=False)
    assert row["operations"] == 4 * encoder_cost(config, 256).total_forward_flops
    assert row["predicted_threshold"] == 4608


@pytest.mark.parametrize("quick", [True, False])
def test_gated_units_and_blocks_have_equal_parameters(families, quick):
    unit, block = (
        sum(count_parameters(families.config_of(name, 2048, quick)).values()) for name in ("gau_alpha", "blocks")
    )
    assert unit / block == pytest.approx(1, abs=4e-4)


def test_tables_and_picture_show_every_family(families, capsys, tmp_path):
    names = families.FAMILIES
    found = {
        "settings": {"tokens": 1024, "lengths": [64, 256, 1024]},
        "peak_gflops": 200.0,
        "parameters": dict.fromkeys(names, 1),
        "rows": [row for name in names for row in rows(families, name)],
        "fits": {name: families.measured_share(rows(families, name)) for name in names},
    }
    assert json.loads(json.dumps(found)) == found
    families.print_tables(found)
    printed = capsys.readouterr().out
    assert all(f"\n{name} " in printed for name in names)
    assert "gau_alpha to blocks" in printed
    families.draw(found, tmp_path / "families.png")
    picture = (tmp_path / "families.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert 20_000 < len(picture) < 200_000
