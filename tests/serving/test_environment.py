"""The check of a model's requirements against what is installed."""

from importlib.metadata import version
from pathlib import Path

import pytest

from millpond.kernel.environments import required_by
from millpond.kernel.errors import FailedPrecondition
from millpond.serving.worker.environment import check_environment

PANDAS = version("pandas")


def model_dir(tmp_path: Path, requirements: str, mlmodel: str = "") -> Path:
    (tmp_path / "requirements.txt").write_text(requirements)
    (tmp_path / "MLmodel").write_text(mlmodel)
    return tmp_path


def test_what_is_met_needs_no_words(tmp_path: Path) -> None:
    found = check_environment(model_dir(tmp_path, f"pandas=={PANDAS}\n# a remark\n\nmlflow\n-r other.txt\n"))
    assert (found.notes, found.checked) == ("", 2)


def test_missing_and_conflicting_packages_are_named(tmp_path: Path) -> None:
    found = check_environment(
        model_dir(tmp_path, "pandas<1\nno-such-package==2.0\n./local\nwin; sys_platform=='win32'\n")
    )
    assert found.missing == ("no-such-package==2.0",)
    assert found.conflicting == (f"pandas<1 (here {PANDAS})",)
    assert "not installed here: no-such-package==2.0" in found.notes
    assert "conflict: pandas<1" in found.build_log


def test_another_python_is_named(tmp_path: Path) -> None:
    flavors = "flavors:\n  python_function:\n    python_version: 3.7.9\n"
    assert "logged with Python 3.7.9" in check_environment(model_dir(tmp_path, "", flavors)).notes


def test_a_model_without_requirements_is_not_judged(tmp_path: Path) -> None:
    assert check_environment(tmp_path).notes == ""


def test_a_missing_module_is_explained(tmp_path: Path) -> None:
    said = check_environment(tmp_path).explain(ModuleNotFoundError("No module named 'lightgbm'", name="lightgbm"))
    assert "needs the Python package 'lightgbm'" in said


def test_files_that_are_too_large_are_cut_or_refused(tmp_path: Path) -> None:
    names = "\n".join(f"no-such-{number}{'x' * 300}==1" for number in range(2500))
    found = check_environment(model_dir(tmp_path, names, "\n" * 200_000))
    assert (found.checked, len(found.notes) < 3000) == (2000, True)
    assert "and 1980 more" in found.notes
    with pytest.raises(FailedPrecondition, match="5001 lines"):
        required_by(model_dir(tmp_path, "pandas\n" * 5001))
    with pytest.raises(FailedPrecondition, match="1024 KiB"):
        required_by(model_dir(tmp_path, "x" * (1 << 20) + "y"))
    model_dir(tmp_path, "pandas")
    (tmp_path / "python_env.yaml").write_text("python: 3.12.1\nx: [" + "1," * 20_000 + "]")
    with pytest.raises(FailedPrecondition, match=r"python_env\.yaml has more than 16 KiB"):
        required_by(tmp_path)
