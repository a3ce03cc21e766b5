"""All rows."""

from __future__ import annotations

from typing import Final

from tests.bench.rows_back import BACK
from tests.bench.rows_far import FAR
from tests.bench.rows_local import LOCAL
from tests.bench.rows_memory import MEMORY
from tests.bench.rows_vault import VAULT

ROWS: Final = (*LOCAL, *FAR, *BACK, *VAULT, *MEMORY)
