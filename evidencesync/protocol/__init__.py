"""The protocol without I/O: messages, frames, compression, and the sending and the receiving end as state machines."""
