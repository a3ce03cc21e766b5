"""Whoever may do less skips tests; in CI only for a reason that is on the list."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.conftest import ALLOWED_SKIPS

_TESTS = Path(__file__).parents[2]


def test_what_needs_another_user_is_skipped_for_a_reason_that_is_on_the_list() -> None:
    found = 0
    for file, text in ((file, file.read_text()) for file in _TESTS.rglob("*.py")):
        for node in ast.walk(ast.parse(text)) if "skipif" in text else ():
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("skipif") and "uid()" in ast.unparse(node.args[0]):
                found += 1
                reasons = [word.value for word in node.keywords if word.arg == "reason"]
                texts = [reason.value for reason in reasons if isinstance(reason, ast.Constant)]
                assert texts, f"{file.name}: {ast.unparse(node)}"
                assert any(re.search(allowed, str(texts[0])) for allowed in ALLOWED_SKIPS), f"{file.name}: {texts[0]!r}"
    assert found > 3
