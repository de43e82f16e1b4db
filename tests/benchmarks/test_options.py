"""The command line of each benchmark."""

from importlib import import_module

import pytest

from benchmarks.__main__ import benchmarks


@pytest.mark.parametrize("name", benchmarks())
def test_a_benchmark_tells_its_options(name, capsys):
    benchmark = import_module(f"benchmarks.{name}")

    with pytest.raises(SystemExit, match="0"):
        benchmark.main(["--help"])

    told = capsys.readouterr().out
    assert told.startswith(f"usage: python -m benchmarks {name} ")
    assert benchmark.__doc__.strip() in told


@pytest.mark.parametrize("name", benchmarks())
def test_the_files_of_a_benchmark_have_its_name_or_another(name):
    options = import_module(f"benchmarks.{name}")._options

    assert options([]).name == name
    assert options(["--name", "mine"]).name == "mine"
