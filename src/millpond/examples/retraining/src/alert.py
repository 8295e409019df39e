"""alert.py VERSION REASON: fails, so that the run does and whom the job tells of failures is told why."""

import sys

version, reason = sys.argv[1:]
sys.exit(f"Version {version} was not promoted: {reason}")
