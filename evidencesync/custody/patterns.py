"""OpenSSH's pattern lists, by which trusted signers name principals and namespaces (PATTERNS in ssh_config(5))."""

from __future__ import annotations


def matches_any(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether some pattern fits the whole name, and none that is negated with `!`. Bytes are compared, as OpenSSH does."""
    fitting = [pattern for pattern in patterns if _fits(name.encode("utf-8"), pattern.removeprefix("!").encode("utf-8"))]
    return bool(fitting) and not any(pattern.startswith("!") for pattern in fitting)


def _fits(name: bytes, pattern: bytes) -> bool:
    """Whether a pattern with `*` and `?` fits the whole name. Goes back to the last `*` only, so that it cannot blow up."""
    at = token_at = 0
    retry_at, retry_token_at = 0, -1  # where to go on after the last `*` when what follows it does not fit
    while at < len(name):
        token = pattern[token_at : token_at + 1]
        if token == b"*":
            token_at += 1
            retry_at, retry_token_at = at, token_at
        elif token and token in (b"?", name[at : at + 1]):
            at, token_at = at + 1, token_at + 1
        elif retry_token_at >= 0:
            retry_at += 1
            at, token_at = retry_at, retry_token_at
        else:
            return False
    return not pattern[token_at:].strip(b"*")
