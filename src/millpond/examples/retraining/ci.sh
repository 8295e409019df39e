#!/bin/sh
# What each CI does: tests, then what a deployment to TARGET would do, and with `deploy` the deployment itself.
# DATABRICKS_HOST and DATABRICKS_TOKEN say where to; the token is that of a service principal.
set -eu
target=${1:?ci.sh TARGET [deploy]}
python -m pytest -q
millpond bundle validate -t "$target"
millpond bundle plan -t "$target"
if [ "${2:-}" = deploy ]; then millpond bundle deploy -t "$target"; fi
