"""What every part of the check uses."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
HOME = ROOT / ".servers"
CHART = ROOT / "charts" / "rhio"

# The oldest that Chart.yaml allows, one between, the newest that the schemas know.
KUBERNETES = ["1.25", "1.31", "1.37"]

# A private key, for this check alone.
KEY_A = "a" * 64


class Failed(Exception):
    """A check that did not go well, in words."""


def say(text):
    print(f"chart: {text}", flush=True)


def check(condition, text):
    if not condition:
        raise Failed(text)


def clean_environment():
    return {name: text for name, text in os.environ.items() if not name.startswith("RHIO_")}
