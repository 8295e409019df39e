"""Does what its input's column `do` says: the ways in which a model can return, fail and misbehave."""

import base64
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, date, datetime

import mlflow
import numpy as np
import pandas as pd

_hoard = []


class Obedient(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        order = str(model_input["do"].iloc[0])
        name, _, argument = order.partition(":")
        return getattr(self, f"do_{name}")(argument, model_input)

    def predict_stream(self, context, model_input, params=None):
        yield from self.predict(context, pd.DataFrame([model_input]))

    # ways to return

    def do_frame(self, _argument, _rows):
        return pd.DataFrame({"a": [1, 2], "b": [0.5, None], "c": ["x", None]})

    def do_series(self, _argument, _rows):
        return pd.Series([1.5, float("nan")], name="s")

    def do_unnamed_series(self, _argument, _rows):
        return pd.Series([1, 2])

    def do_list(self, _argument, _rows):
        return [1, "two", None, 3.5, {"k": [True]}]

    def do_dict(self, _argument, _rows):
        return {"label": "yes", "scores": np.array([[0.25, 0.75]]), "one": np.float32(0.1), "many": np.int64(7)}

    def do_array(self, _argument, _rows):
        return np.array([[1, 2], [3, 4]])

    def do_odd_numbers(self, _argument, _rows):
        return np.array([float("nan"), float("inf"), float("-inf"), -0.0, 1e300])

    def do_exponents(self, _argument, _rows):
        return np.array([[1e16, 123456789012345.6], [0.0001, 0.00009], [-1.5e-7, 5e-324], [2.0**60, 0.1 + 0.2]])

    def do_single_precision(self, _argument, _rows):
        return np.array([0.1, 2.5, -1e-3, 16777216.0], dtype=np.float32)

    def do_floats(self, _argument, _rows):
        return [0.5, 1e-05, 3.0, float("nan")]

    def do_plain_floats(self, _argument, _rows):
        return [0.5, -0.25, 1e15]

    def do_truths(self, _argument, _rows):
        return np.array([True, False])

    def do_times(self, _argument, _rows):
        return {
            "stamp": pd.Timestamp("2026-01-02T03:04:05.000006"),
            "aware": datetime(2026, 1, 2, tzinfo=UTC),
            "date": date(2026, 1, 2),
            "nanos": np.datetime64("2026-01-02T03:04:05.123456789"),
            "frame": pd.DataFrame({"t": pd.to_datetime(["2026-01-02"])})["t"].tolist(),
        }

    def do_times_frame(self, _argument, _rows):
        return pd.DataFrame({"t": pd.to_datetime(["2026-01-02", None])}).head(1)

    def do_bytes(self, _argument, _rows):
        return {"raw": b"\x00\xff millpond"}

    def do_objects(self, _argument, _rows):
        return np.array(["a", 1, None, np.float64(2.0)], dtype=object)

    def do_scalar(self, _argument, _rows):
        return np.float64(3.25)

    def do_unicode(self, _argument, _rows):
        return ["größe", "雪", "\u2028"]

    def do_echo(self, _argument, rows):
        return rows

    def do_generator(self, _argument, _rows):
        return (number for number in range(3))

    def do_begin(self, _argument, _rows):
        yield "begun"
        raise ValueError("and not gone on")

    def do_set(self, _argument, _rows):
        return {1, 2}

    def do_huge(self, argument, _rows):
        return ["x" * int(argument)]

    # ways to look around

    def do_pid(self, _argument, _rows):
        return [os.getpid()]

    def do_environ(self, _argument, _rows):
        return dict(os.environ)

    def do_read(self, argument, _rows):
        with open(argument) as stream:
            return [stream.read()]

    def do_list_files(self, argument, _rows):
        return sorted(os.listdir(argument))

    def do_write(self, argument, _rows):
        with open(argument, "w") as stream:
            stream.write("written")
        return ["written"]

    def do_connect(self, argument, _rows):
        host, _, port = argument.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            return [connection.recv(5).decode()]

    def do_signal_parent(self, _argument, _rows):
        os.kill(os.getppid(), signal.SIGTERM)
        return ["sent"]

    def do_parent_environ(self, _argument, _rows):
        with open(f"/proc/{os.getppid()}/environ") as stream:
            return [stream.read()]

    def do_descriptors(self, _argument, _rows):
        found = []
        for number in os.listdir("/proc/self/fd"):
            try:
                found.append(os.readlink(f"/proc/self/fd/{number}"))
            except OSError:
                continue
        return found

    def do_tell(self, argument, _rows):
        value = os.environ[argument]
        print("printed", value)
        os.write(1, f"written {value}\n".encode())
        print("Basic", base64.b64encode(f"user:{value}".encode()).decode(), file=sys.stderr)
        subprocess.run(["printenv", argument], check=True)
        print("told", len(value))
        return [value]

    # ways to fail and to misbehave

    def do_raise(self, argument, _rows):
        raise ValueError(argument or f"no luck in {__file__}")

    def do_raise_variable(self, argument, _rows):
        raise ValueError(f"cannot connect with {os.environ[argument]}")

    def do_exit(self, argument, _rows):
        os._exit(int(argument or 3))

    def do_sys_exit(self, _argument, _rows):
        sys.exit(4)

    def do_segfault(self, _argument, _rows):
        os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(10)

    def do_hang(self, argument, _rows):
        threading.Event().wait(float(argument or 3600))
        return ["late"]

    def do_leak(self, argument, _rows):
        _hoard.append(bytearray(int(argument)))
        return [len(_hoard)]

    def do_print(self, argument, _rows):
        for _ in range(int(argument)):
            sys.stdout.write("y" * 1023 + "\n")
        return ["printed"]

    def do_child(self, _argument, _rows):
        return [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid]


mlflow.models.set_model(Obedient())
