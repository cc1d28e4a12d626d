"""Warnings point at the code that users wrote."""

import warnings

import pytest

from xsphere.notices import PACKAGE, warn_user

WARN = "def warn(): warn_user('look', UserWarning)"


def warned_from(filename: str) -> str:
    """File that a warning points at, which arises in a file of some name."""
    names: dict[str, object] = {"warn_user": warn_user}
    exec(compile(WARN, filename, "exec"), names)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        names["warn"]()  # type: ignore[operator]
    return seen[0].filename


@pytest.mark.parametrize("name", ["regridding/labelled.py", "cache.py"])
def test_code_of_the_package_is_passed_over(name: str) -> None:
    assert warned_from(PACKAGE + name) == __file__


@pytest.mark.parametrize("name", ["-project/run.py", "_tools.py"])
def test_a_name_that_goes_on_is_not_the_package(name: str) -> None:
    filename = PACKAGE.rstrip("/\\") + name
    assert warned_from(filename) == filename
