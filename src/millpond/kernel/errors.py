"""The one hierarchy of errors that domain and services raise; `kernel.http` maps it to each wire dialect."""

from typing import ClassVar


class MillpondError(Exception):
    """An error that a user may read: the message says what, which one, and what to do."""

    code: ClassVar[str] = "INTERNAL_ERROR"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidArgument(MillpondError):
    """The request itself is wrong and will stay wrong."""

    code = "INVALID_PARAMETER_VALUE"


class MalformedRequest(InvalidArgument):
    """The parts of a request contradict each other."""

    code = "MALFORMED_REQUEST"


class NotFound(MillpondError):
    """No such object, or none that this principal may see."""

    code = "RESOURCE_DOES_NOT_EXIST"


class AlreadyExists(MillpondError):
    """The name is taken."""

    code = "RESOURCE_ALREADY_EXISTS"


class Unauthenticated(MillpondError):
    """No credential, or one that is wrong, expired or revoked."""

    code = "UNAUTHENTICATED"


class PermissionDenied(MillpondError):
    """The principal may see the object but not do this to it."""

    code = "PERMISSION_DENIED"


class Conflict(MillpondError):
    """Somebody else changed the object at the same time; reading again and retrying may help."""

    code = "ABORTED"


class FailedPrecondition(MillpondError):
    """The object is in a state in which this cannot be done."""

    code = "INVALID_STATE"


class DirectoryNotEmpty(FailedPrecondition):
    """A directory holds objects, and was to be deleted alone."""

    code = "DIRECTORY_NOT_EMPTY"


class ResourceExhausted(MillpondError):
    """A limit (disk, memory, queue, quota) is reached."""

    code = "RESOURCE_EXHAUSTED"

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        """Clients repeat the request by themselves after so long."""


class LimitExceeded(MillpondError):
    """There are as many objects of a kind as there may be; deleting one makes room."""

    code = "RESOURCE_LIMIT_EXCEEDED"


class NotebookTooLarge(InvalidArgument):
    """A notebook or file has more bytes than the workspace takes or gives."""

    code = "MAX_NOTEBOOK_SIZE_EXCEEDED"


class StorageFull(ResourceExhausted):
    """There is no room left for data. Answered as 507: clients retry 429 for minutes, and room does not come so."""


class DataLoss(MillpondError):
    """What is stored was altered or is damaged, and cannot be read."""

    code = "DATA_LOSS"


class DeadlineExceeded(MillpondError):
    """The part that should answer did not do so in time."""

    code = "DEADLINE_EXCEEDED"


class NotImplementedHere(MillpondError):
    """A known operation that Millpond does not have: named, never faked."""

    code = "NOT_IMPLEMENTED"


class Unavailable(MillpondError):
    """The part that would answer is starting, stopping or unreachable; a retry may succeed."""

    code = "TEMPORARILY_UNAVAILABLE"
