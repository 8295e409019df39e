"""Which libraries a cluster takes."""

import pytest

from millpond.compute.libraries import checked
from millpond.kernel.errors import InvalidArgument


@pytest.mark.parametrize("package", ["", "numpy\nscipy", "# numpy"])
def test_a_pypi_library_is_one_package(package: str) -> None:
    with pytest.raises(InvalidArgument, match="one package"):
        checked({"pypi": {"package": package}})
