"""What may run at the other end of a context's line: a process that does there what its commands say."""

import json
import signal
import socket
import sys
import types

from millpond.kernel.child import report_ready


def main() -> None:
    """`context_process DIRECTORY LINE`: run the text of each command, with `line`, the socket."""
    with socket.socket(fileno=int(sys.argv[2])) as line, line.makefile("r") as stream:
        report_ready({})
        for asked in stream:
            exec(json.loads(asked)["text"], {"line": line, **vars(_names())})
        signal.pause()


def _names() -> types.SimpleNamespace:
    import os
    import subprocess

    return types.SimpleNamespace(os=os, signal=signal, subprocess=subprocess, json=json)


if __name__ == "__main__":
    main()
