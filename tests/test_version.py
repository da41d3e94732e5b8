"""The version, and what a package index is shown."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import metadata, version
from pathlib import Path

import docutils.core
import docutils.writers
import pytest

import consul_locker

ROOT = Path(__file__).parents[1]


def test_the_version_is_that_of_the_distribution() -> None:
    assert consul_locker.__version__ == version("consul_locker")


def test_no_other_name_is_made_up() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'LockerFactoy'"):
        consul_locker.LockerFactoy  # noqa: B018


def test_an_import_does_not_read_the_distributions() -> None:
    program = "import sys; before = set(sys.modules); import consul_locker; print(*(set(sys.modules) - before))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    loaded = answer.stdout.split()
    assert "consul_locker" in loaded
    assert "importlib.metadata" not in loaded


def long_description() -> str:
    """As setup.py makes it from the README, without a build."""
    program = "import setuptools; setuptools.setup = lambda **given: print(given['long_description']); import setup"
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    return answer.stdout


def test_the_long_description_names_no_file_of_the_repository() -> None:
    pytest.importorskip("setuptools")
    text = long_description()
    assert "A first program" in text
    assert "Beside others" in text
    assert ".. image::" not in text
    assert "<docs/" not in text
    assert "repository only" not in text
    writer = docutils.writers.get_writer_class("html5")()
    docutils.core.publish_string(text, writer=writer, settings_overrides={"report_level": 1, "halt_level": 1})


def test_the_distribution_says_whose_it_is() -> None:
    facts = metadata("consul_locker")
    assert facts["Author"] == "consul_locker contributors"
    assert facts.get_all("Project-URL")
