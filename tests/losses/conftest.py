"""The oracles lie beside the rooms' tests; appended, so that they shadow nothing."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
