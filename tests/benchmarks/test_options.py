"""Tests of the command line of every benchmark."""

from importlib import import_module

import pytest

from benchmarks.__main__ import benchmarks


@pytest.mark.parametrize("name", benchmarks())
def test_help_contains_the_docstring(name, capsys):
    benchmark = import_module(f"benchmarks.{name}")

    with pytest.raises(SystemExit, match="0"):
        benchmark.main(["--help"])

    output = capsys.readouterr().out
    assert output.startswith(f"usage: python -m benchmarks {name} ")
    assert benchmark.__doc__.strip() in output


@pytest.mark.parametrize("name", benchmarks())
def test_the_name_of_the_files_is_an_option(name):
    options = import_module(f"benchmarks.{name}")._options

    assert options([]).name == name
    assert options(["--name", "other"]).name == "other"
