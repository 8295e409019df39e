"""Answers in parts, as its input says: `{"do": ..., "count": N}`."""

import os
import time
from pathlib import Path

import mlflow
import numpy as np


class Teller(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return [str(model_input)]

    def predict_stream(self, context, model_input, params=None):
        return getattr(self, f"do_{model_input['do']}")(model_input)

    def do_count(self, asked):
        for number in range(int(asked["count"])):
            yield {"number": np.int64(number), "text": "größe\n"}

    def do_input(self, asked):
        yield {"given": asked}

    def do_raise(self, asked):
        yield from self.do_count(asked)
        raise ValueError("no luck")

    def do_exit(self, asked):
        yield from self.do_count(asked)
        os._exit(3)

    def do_slow(self, asked):
        for number in range(int(asked["count"])):
            time.sleep(float(asked["pause_s"]))
            yield {"number": number}

    def do_endless(self, asked):
        """Notes in a file of its own what became of it."""
        note = Path("note.txt")
        made = 0
        try:
            while True:
                made += 1
                note.write_text(f"made {made}")
                yield {"number": made, "text": "x" * int(asked.get("size", 0))}
        finally:
            note.write_text(f"closed after {made}")

    def do_pid(self, asked):
        """Other than what any other process says; after so much that is the same."""
        for _ in range(int(asked.get("count", 0))):
            yield "x" * 100_000
        yield {"pid": os.getpid()}

    def do_note(self, _asked):
        yield Path("note.txt").read_text()

    def do_large(self, asked):
        yield {"text": "x" * int(asked["size"])}


mlflow.models.set_model(Teller())
