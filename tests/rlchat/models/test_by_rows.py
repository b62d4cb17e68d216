"""Models that are run row by row: exact, as the packed ones are, and able to learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from test_architectures import outcome
