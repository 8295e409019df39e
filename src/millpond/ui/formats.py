"""Numbers as people read them."""


def rows_text(count: int) -> str:
    """A number of rows."""
    return "1 row" if count == 1 else f"{count:,} rows"


def size_text(size_bytes: int) -> str:
    """A size with a binary unit: `512 B`, `1.4 KiB`, `3.0 GiB`."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{int(size):,} B" if unit == "B" else f"{size:,.1f} {unit}"


def duration_text(milliseconds: float) -> str:
    """A duration: `840 ms`, `12.3 s`, `4 min 10 s`, `2 h 5 min`."""
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def metric_text(value: float) -> str:
    """A metric with at most five digits that matter."""
    if value != value:
        return "NaN"
    if abs(value) < 1e7 and value == int(value):
        return f"{int(value):,}"
    return f"{value:.5g}"
