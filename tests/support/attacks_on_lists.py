"""Good signatures before odd lists of trusted signers and of revoked keys."""

from __future__ import annotations

import base64
import hashlib
import random

from tests.support.signature_attacks import AT, NAMESPACE, PRINCIPAL, Attack, Envelope, armor, from_trusted, line_of, spoil, way
from tests.support.signing_keys import SoftKey, ed25519_key

# --- Who is trusted -------------------------------------------------------------------------------------------------------


@way
def _bytes_of_the_list(source: random.Random, key: SoftKey) -> Attack:
    options = source.choice(("", f'namespaces="{NAMESPACE}" ', 'valid-after="20240101Z",valid-before="20250101Z" '))
    line = line_of(key, options=options) + b" a comment\n"
    where = source.randrange(3)
    if where:  # the front of the line, where there is something to misread
        front = len(line) - len(base64.b64encode(key.blob)) - 12
        return from_trusted(key, armor(Envelope(key).envelope()), trusted=spoil(source, line[:front]) + line[front:])
    return from_trusted(key, armor(Envelope(key).envelope()), trusted=spoil(source, line))


@way
def _times(source: random.Random, key: SoftKey) -> Attack:
    times = (
        "20240601",
        "20240601000000",
        "20240531235959",
        "20240601000001",
        "202406010000",
        "202405312359",
        "19700101",
        "19700102",
        "20240230",
        "20241301",
        "2024",
        "20240601240000",
        "20240601006000",
        "20240601000060",
        "2024060100",
        "99991231",
        "",
    )
    zones = ("Z", "Z", "Z", "Z", "", "z", "ZZ", " Z")
    made = [f'{name}="{source.choice(times)}{source.choice(zones)}"' for name in ("valid-after", "valid-before")]
    options = source.choice((made[0], made[1], ",".join(made), ",".join(reversed(made)), f"{made[0]},{made[0]}"))
    at = AT + source.choice((0, 0, -1, 1, 86_400, -86_400))
    return from_trusted(key, armor(Envelope(key).envelope()), trusted=line_of(key, options=options + " ") + b"\n", at=at)


@way
def _namespaces_of_the_list(source: random.Random, key: SoftKey) -> Attack:
    patterns = (
        NAMESPACE,
        "*",
        "*@evidencesync",
        "receipt@evidencesync",
        "manifest@*",
        "?anifest@evidencesync",
        "!manifest@*",
        "!file",
        "",
        ",",
        NAMESPACE.upper(),
        "manifest",
        " " + NAMESPACE,
        NAMESPACE + " ",
        "a" * 1100,
    )
    chosen = ",".join(source.choice(patterns) for _ in range(source.randrange(1, 4)))
    spelled = source.choice(
        (f'namespaces="{chosen}"',) * 6
        + (
            f"namespaces={chosen}",
            f"namespaces='{chosen}'",
            f'Namespaces="{chosen}"',
            f'namespaces ="{chosen}"',
            f'namespaces="{chosen}',
        )
        + (
            f'namespaces="{chosen}",',
            f',namespaces="{chosen}"',
            f'namespaces="{chosen}",namespaces="*"',
            f'namespaces="{chosen}"x',
        )
    )
    return from_trusted(key, armor(Envelope(key).envelope()), trusted=line_of(key, options=spelled + " ") + b"\n")


@way
def _principals(source: random.Random, key: SoftKey) -> Attack:
    patterns = (
        PRINCIPAL,
        "*",
        "*@lab",
        "ben",
        "!ana@lab",
        "!ben",
        "ANA@LAB",
        "an?@lab",
        "ana@lab ",
        '"ana@lab"',
        "'ana@lab'",
        "",
        '"ana@lab',
        'ana@lab"',
        "ana\\@lab",
        "#ana@lab",
        "ana",
        "a" * 1100,
        '"ana@lab,ben"',
        '"ana" @lab',
        "\u00e4na@lab",
    )
    chosen = ",".join(source.choice(patterns) for _ in range(source.choice((1, 1, 2, 3))))
    asked = source.choice((PRINCIPAL, PRINCIPAL, PRINCIPAL, "ben", "ANA@LAB", "*", "ana@lab,ben", "!ana@lab", '"ana@lab"', "ana"))
    return from_trusted(key, armor(Envelope(key).envelope()), trusted=line_of(key, chosen) + b"\n", principal=asked)


@way
def _lines_of_the_list(source: random.Random, key: SoftKey) -> Attack:
    good = line_of(key)
    other = line_of(ed25519_key(9), "ben")
    text = base64.b64encode(key.blob)
    choices = (
        good,
        b"\xef\xbb\xbf" + good,
        b" \t" + good,
        good + b"\r\n",
        good.replace(b" ", b"\t"),
        good.replace(b" ", b"  "),
        good + b" a comment # with more",
        b"# comment\n\n \n" + good,
        b"\r\n" + good,
        b"#\r\n" + good,
        b" # comment\n" + good,
        b"\f\n" + good,
        b"\v" + good,
        b"garbage\n" + good,
        good + b"\ngarbage\n",
        other + b"\n" + good,
        good + b"\n" + good,
        other + b"\n",
        good.replace(b" ", b" cert-authority ", 1),
        good.replace(b" ", b" no-such-option ", 1),
        good.replace(b" ", b' no-such-option,namespaces="*" ', 1),
        good.replace(text, text + b"="),
        good.replace(text, text + b"A"),
        good.replace(text, text[:20] + b" " + text[20:]),
        good.replace(text, text + b"!"),
        good.replace(text, text + b"\r"),
        good.replace(text, base64.b64encode(key.blob + b"\0")),
        good.replace(text, base64.b64encode(key.blob[:-1])),
        good.replace(text, text.rstrip(b"=") or text),
        good.replace(key.algorithm.encode(), b"ssh-ed25519"),
        good.replace(key.algorithm.encode(), key.algorithm.upper().encode()),
        good.replace(key.algorithm.encode() + b" ", b""),
        good.replace(b"ana@lab ", b""),
        good + b"\0",
        b"\0\n" + good,
        b"",
        b"\n",
        good + b"\xff",
        b"\xff\n" + good,
        b"ana@lab\n" + good,
        good.replace(b" ", b"\x0b", 1),
        good.replace(b" ", b"=", 1),
        good.replace(b" ", b"\n", 1),
        good + b" \x1b[2J",
    )
    end = source.choice((b"\n", b"\n", b"", b"\r\n", b"\n\n"))
    return from_trusted(key, armor(Envelope(key).envelope()), trusted=source.choice(choices) + end)


@way
def _revocations(source: random.Random, key: SoftKey) -> Attack:
    algorithm, text = key.algorithm.encode(), base64.b64encode(key.blob)
    good, other = algorithm + b" " + text, b" ".join(line_of(ed25519_key(9)).split()[1:])
    digest = base64.b64encode(hashlib.sha256(key.blob).digest()).rstrip(b"=")
    choices = (
        b"",
        good,
        other,
        other + b"\n" + good,
        b"# " + good,
        b" " + good,
        good + b" a comment",
        good + b"\r",
        good + b"\0",
        good[:-6],
        b"\r\n" + good,
        b"# c\n\n \n" + good,
        b"garbage\n" + good,
        b"garbage",
        text,
        good.replace(b" ", b"\t"),
        b'"' + good,
        b"key: " + good,
        b"ana@lab " + good,
        b'x="y" ' + good,
        good.replace(algorithm, b"ssh-dss"),
        b"SSHKRL\n\0",
        b"serial: 1",
        b"\f" + good,
        b"\xff",
        b"sha256: SHA256:" + digest,
        b"SHA256:" + digest,
    )
    return from_trusted(
        key, armor(Envelope(key).envelope()), revoked=source.choice(choices) + source.choice((b"\n", b"", b"\r\n"))
    )
