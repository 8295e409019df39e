"""What most models need besides MLflow, imported before a worker is forked, where it is installed."""

import contextlib

with contextlib.suppress(ImportError):
    import sklearn.compose
    import sklearn.ensemble
    import sklearn.linear_model
    import sklearn.pipeline  # noqa: F401 - imported to be there

with contextlib.suppress(ImportError):
    import millpond.serving.worker.fast_path  # noqa: F401
