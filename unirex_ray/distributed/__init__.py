"""Running trials on a Ray cluster."""

import os

if "RAY_ADDRESS" not in os.environ:
    # A process without a cluster starts its own. Ray listens on all interfaces of some hosts unless it is told that
    # there will be one node only, and reads this once, when it is imported.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
