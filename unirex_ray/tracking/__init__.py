"""Where sweeps and trials are recorded."""

import os

# MLflow reads these when it is imported.
# It sends usage statistics unless told not to.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# With a server, it prints two lines of addresses at the end of every run.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
# Files of a few hundred kB are downloaded one by one, each with two bars.
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# It would store a uv.lock of the working directory with a model, and install what that says where it is served.
os.environ.setdefault("MLFLOW_UV_AUTO_DETECT", "false")
