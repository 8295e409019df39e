"""The gateway process: Spark Connect in front of the engine. Started by the supervisor."""

from millpond.kernel.child import report_ready


def main() -> None:
    """Serve Spark Connect until SIGTERM."""
    report_ready({})
    import signal

    signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    main()
