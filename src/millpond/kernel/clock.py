"""Time: aware UTC datetimes inside, epoch milliseconds only at the edge."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def utc_now() -> datetime:
    """The current time, aware, in UTC."""
    return datetime.now(UTC)


def rfc3339(moment: datetime) -> str:
    """An aware UTC datetime as RFC 3339 writes it, with microseconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def epoch_ms(moment: datetime) -> int:
    """Milliseconds since 1970-01-01 UTC, rounded down."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def from_epoch_ms(milliseconds: int) -> datetime:
    """The aware UTC datetime of a number of milliseconds since 1970-01-01 UTC."""
    return _EPOCH + timedelta(milliseconds=milliseconds)


def epoch_us(moment: datetime) -> int:
    """Microseconds since 1970-01-01 UTC."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_epoch_us(microseconds: int) -> datetime:
    """The aware UTC datetime of a number of microseconds since 1970-01-01 UTC."""
    return _EPOCH + timedelta(microseconds=microseconds)
