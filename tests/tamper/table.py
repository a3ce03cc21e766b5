"""All rows of the tamper corpus, and those of states that are unusual and sound."""

from __future__ import annotations

from typing import Final

from tests.tamper import rows_chains, rows_data, rows_documents, rows_keys, rows_root, rows_sound
from tests.tamper.row import Row

ROWS: Final[dict[str, Row]] = {}
for _room in (rows_data, rows_documents, rows_chains, rows_root, rows_keys):
    for _name, _row in _room.TABLE.rows.items():
        assert _name not in ROWS, _name
        ROWS[_name] = _row
SOUND: Final = {**rows_sound.TABLE.rows, **rows_keys.SOUND.rows}
assert not SOUND.keys() & ROWS.keys()
