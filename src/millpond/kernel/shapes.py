"""What somebody sent, as a model of pydantic has it."""

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from millpond.kernel.errors import InvalidArgument

_Model = TypeVar("_Model", bound=BaseModel)


def validated(model: type[_Model], given: Any) -> _Model:
    """What was given, where it is whole. Raises InvalidArgument that names the first thing that is wrong."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidArgument(f"{'.'.join(map(str, first['loc']))}: {first['msg']}.") from error
