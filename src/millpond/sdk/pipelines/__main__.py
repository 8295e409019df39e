"""`python -m millpond.sdk.pipelines SPEC.json`: runs one update, and prints its events, each a line of JSON."""

import json
import sys
from pathlib import Path

from pyspark.sql import SparkSession

from millpond.sdk.pipelines.run import PipelineFailed, run


def main() -> None:
    """Run it; the code is 1 when it failed."""
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        run(spec, lambda event: print(json.dumps(event), flush=True))
    except PipelineFailed as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    finally:
        if (spark := SparkSession.getActiveSession()) is not None:
            spark.stop()


if __name__ == "__main__":
    main()
