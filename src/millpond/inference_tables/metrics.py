"""What is counted about inference tables."""

from prometheus_client import Counter, Gauge

ROWS = Counter("millpond_inference_table_rows_total", "Rows that were committed to inference tables")
DROPPED = Counter("millpond_inference_table_dropped_total", "Answers that were not kept, as the log was full")
REFUSED = Counter("millpond_inference_table_refused_total", "Requests that were refused, as the log was full")
DAMAGED = Counter("millpond_inference_table_damaged_bytes_total", "Bytes of segments that could not be read")
WAITING = Gauge(
    "millpond_inference_table_waiting_bytes", "Bytes that are not committed yet", multiprocess_mode="livesum"
)
