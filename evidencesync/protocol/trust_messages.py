"""Defines the messages with which a vault's trust is read and changed from afar. `docs/protocol.md` explains their order."""

# No annotations of the __future__ here: msgspec would have to compile each of these texts at every start.
from evidencesync.protocol.messages import DocumentBytes, Message, Signature


class OwnDocumentsAsk(Message, frozen=True):
    """Asks for what the vault states about itself: its settings, its lists of trust and its own chain; of no case anything.

    In a session with the purpose `read` or `trust`, from TRUST_VERSION on. It is answered as DocumentsAsk is.
    """


class TrustAsk(Message, frozen=True):
    """Asks for a change of trust: a TrustRequest document, and the administrator's signature over it.

    In a session with the purpose `trust`. Once it is carried out, the vault answers as to OwnDocumentsAsk.
    """

    request: DocumentBytes
    signature: Signature
