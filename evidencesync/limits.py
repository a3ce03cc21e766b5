"""Defines every bound on input from outside, each with its reason. All sizes are bytes unless the name says otherwise."""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# Names and paths. Linux gives a name 255 bytes; a whole path may be longer than PATH_MAX (4096), but not without bound.
MAX_NAME: Final = 255
MAX_PATH: Final = 64 * KIB
MAX_DEPTH: Final = 4096  # folders, one inside the other
MAX_LINK_TARGET: Final = 4096  # what readlink(2) can return on Linux
MAX_FOLDER_NAME: Final = 64  # CASE and ITEM folders under cases/
MAX_TITLE: Final = 200  # characters of an exact case or item number
MAX_FREE_TEXT: Final = 8 * KIB  # a note, a description
MAX_FILE_SIZE: Final = 2**53 - 1  # the largest integer every JSON reader keeps exactly

# Entries of a folder that an untrusted SFTP server lists: about 500 bytes of memory each.
MAX_FOLDER_ENTRIES: Final = 1_000_000
MAX_FILES_FROM: Final = 256 * MIB  # a list of files is kept as a tree of names: a million paths are about 60 MiB of text

# Documents. A line must fit a path twice (base64 of the path and of a link), names of owner and group, and a capped list.
MAX_MANIFEST_LINE: Final = 512 * KIB
MAX_HEADER_LINE: Final = 512 * KIB
MAX_TYPED: Final = MAX_HEADER_LINE - 96 * KIB  # of it, notes, filters and command line; the rest tells of source and examiner
MAX_RECORD: Final = 1 * MIB  # one receipt or custody record; read whole
MAX_STATED_INDEX: Final = 64 * MIB  # what the vault's chain states of about 500,000 items; of more, its records are read
MAX_RECORDS: Final = 256  # custody records in one message
MAX_CHAIN: Final = 64 * MIB  # an item's whole chain in a session: about 60,000 records
MAX_KEY_CHANGES: Final = 50  # of one vault's own key: all of them prove the last one in one message
MAX_DETAILS: Final = 100  # details in a record by an examiner
MAX_DETAILS_SIZE: Final = 512 * KIB  # all of them in JSON: with base64, the record still fits into one frame
MAX_DETAIL_NAME: Final = 64
MAX_CASE_FILE: Final = 256 * KIB
MAX_SHOWN_RECORDS: Final = 256 * MIB  # bytes of a chain that a vault shows in one session: 200,000 records of the usual size
MAX_SEEN_DIGESTS: Final = 256  # remembered digests of a chain's last records: they distinguish an older copy from a fork
MAX_KEPT_MANIFEST: Final = 16 * 1024 * MIB  # beside a receipt; about forty million entries
MAX_SIGNATURE: Final = 16 * KIB  # an armored SSHSIG; RSA 16384 is 6 KiB
MAX_TRUST_FILE: Final = 4 * MIB  # trusted_signers, revoked_keys
MAX_TRUST_LINES: Final = 10_000
MAX_TRUST_LINE: Final = 24 * KIB  # a key of 16 KiB, principals and options
MAX_TRUST_PATTERN: Final = 1000  # one principal or namespace pattern; OpenSSH stops at 1023
MAX_GRANTED_CASES: Final = 32  # patterns in what one key may do: as a text in a record they take less than a free text may
MAX_DOCUMENT_FIELDS: Final = 20_000  # texts, keys included, in one header, receipt or record
MAX_TYPED_TEXTS: Final = MAX_DOCUMENT_FIELDS - 1000  # of them, notes, filters and arguments of the command line
MAX_OWNER_NAME: Final = 256  # characters of a user's or group's name; Linux gives 32, Windows 256
MAX_XATTR_NAME: Final = 255
MAX_ERRNO: Final = 65_535
MAX_VAULT_TOML: Final = 64 * KIB
MAX_RECIPIENTS: Final = 100  # of one encrypted export; age's header grows by about 200 bytes for each
MAX_RECIPIENTS_FILE: Final = 1 * MIB
MAX_TIMESTAMP: Final = 64 * KIB  # a request or an answer of RFC 3161; with a chain of four large certificates it is 10 KiB
MAX_TIMESTAMP_CERTIFICATES: Final = 20  # in one answer
MAX_TIMESTAMP_ROOTS: Final = 1000  # in one file; the lists of operating systems have about 150
LIST_CAP_PER_LINE: Final = 1000  # holes, read errors or attributes in one manifest line; more go to continuation lines

MAX_READ_ERRORS: Final = 100_000  # ranges of one file or device; a medium with more is not read further (about 30 MiB of memory)

# Extended attributes of one entry. Linux lets a value be 64 KiB and a list of names 64 KiB; no real file comes near both.
MAX_ATTRIBUTES: Final = 16 * MIB
ATTRIBUTES_PER_LINE: Final = 96 * KIB  # base64; what is above goes to continuation lines (one value alone may be 87 KiB)

# Frames. 1 MiB keeps the memory for one frame small next to the window, and is large enough that Python's cost per frame
# does not show.
MAX_FRAME_BODY: Final = 1 * MIB
FRAME_HEADER: Final = 5
MAX_PREAMBLE: Final = 16 * KIB  # noise a login shell may print before the stream begins
MAX_ERROR_TEXT: Final = 4 * KIB  # a message or hint that a peer sends
MAX_STDERR: Final = 64 * KIB  # kept bytes of the remote end's stderr

# Captures: content that is read once, out of a pipe.
MAX_COMMAND: Final = 4 * KIB  # characters of a command whose output is captured, all its words together
MAX_COMMAND_WORDS: Final = 256
MAX_CAPTURED_ERRORS: Final = 16 * MIB  # bytes of its standard error that are kept, in memory until the command is over

# A bundle that is brought to another machine; ours has a quarter of each. A false one must not fill that machine.
MAX_BUNDLE: Final = 512 * MIB
MAX_BUNDLE_FILES: Final = 20_000

# Contents. Chunk and segment bounds are what the chunker can produce; a peer with other sizes is broken.
MIN_CHUNK: Final = 16 * KIB
MEAN_CHUNK: Final = 64 * KIB
MAX_CHUNK: Final = 256 * KIB
MAX_SEGMENT: Final = 4 * MIB
MAX_SEGMENT_ROWS: Final = 512
MIN_ZERO_RUN: Final = 64 * KIB
MAX_ZERO_EXTENT: Final = 1024 * MIB  # a longer run of zeros becomes several
MAX_SEGMENT_ZEROS: Final = 2 * MAX_ZERO_EXTENT
ZERO_WEIGHT: Final = 1024  # zeros that count as one byte of a window: a few bytes must not cause hours of hashing
MIN_PIECE: Final = 256  # parts of a missing chunk that are compared with a basis; the last of a run of chunks may be shorter
GRID_PIECE: Final = 512  # the sector of a disk: changes in place mostly have its boundaries
MEAN_PIECE: Final = 1 * KIB
MAX_PIECE: Final = 4 * KIB
PIECE_DIGEST: Final = 4  # a hint only: an assembled chunk is checked by its digest
MAX_SEGMENT_PIECES: Final = MAX_SEGMENT // MIN_PIECE + 2 * MAX_SEGMENT_ROWS
SMALL_FILE: Final = 128 * KIB  # up to here a file travels with its manifest page, above as a stream of segments

# Pages: runs of manifest lines that travel as one unit, with the small files they list (at most about 20 MiB).
PAGE_CUT: Final = 32 * KIB  # a page ends after the line that reaches this size
MAX_PAGE: Final = PAGE_CUT + MAX_MANIFEST_LINE
MAX_PAGE_LINES: Final = 1024

# Windows: what a sender may have sent or offered before it is stored; the most that a receiver keeps in memory.
WINDOW: Final = 64 * MIB
MAX_OPEN_PAGES: Final = 64
MAX_OPEN_SEGMENTS: Final = 4096
MAX_UNLISTED_CONTENTS: Final = 16 * 1024  # larger contents that arrive before their page is stored; each is an open file
MAX_OPEN_ROWS: Final = 64 * 1024  # of all open segments; about 300 bytes of memory each; the window counts only their chunks

# Sessions. An idle sender sends a keep-alive from time to time; one that is silent is gone, and its lock is released.
MAX_PATTERNS: Final = 100  # filter patterns in a pull's request: of 4 KiB each, they fit a frame
MAX_PATTERN: Final = 4 * KIB
MAX_LOG_LINE: Final = 4095  # of an event in a log for machines, without the end of the line: one small write
MAX_SURVEYED: Final = 512  # entries in a message of a survey
MAX_RETRIES_CHANGED: Final = 100  # readings of one file that changes
MAX_DEVICE_FACTS: Final = 40  # facts that a pulled device may state; about 25 are known
MAX_FACT: Final = 8 * KIB  # characters of one: the list of a disk's partitions is the longest
ALIVE_SECONDS: Final = 20.0
SILENCE_SECONDS: Final = 180.0
LEAST_SILENCE_SECONDS: Final = 5.0  # the least that a sender may ask for: a busy machine is not a dead one
LEAST_RATE: Final = 100  # bytes a second: a long frame over a slow link takes time; a slower end counts as silent
HANDSHAKE_SECONDS: Final = 60.0  # until a trusted key is proved: a person may have to touch a token
RECONNECT_SECONDS: Final = 1200.0  # for a sender that does not state how long it may take to come back
MAX_RECONNECT_SECONDS: Final = 3600.0
# An end that says it works is not silent; but what it does must show at some time. It may hash terabytes that were left, or read
# round bad sectors, before it has anything to show.
MAX_STANDSTILL_SECONDS: Final = 24 * 3600.0
LEAST_WORK_RATE: Final = 100 * KIB  # bytes a second that a vault reads back, in the mean of a standstill: a dying disk is faster
MAX_CLAIMED_SECONDS: Final = 7 * MAX_STANDSTILL_SECONDS  # a block of nothing but bad sectors takes a disk three days
MAX_CUSTODY_WORK_SECONDS: Final = 3600.0  # for one answer: a quarter of an hour for a lock, the rest for a long chain
MAX_ALIKE: Final = 8  # numbers of items, and of cases, that are nearly a new item's, and are told to its sender
NONCE: Final = 32
# Documents that are read from afar: a vault with 100,000 acquisitions has about two million.
MAX_DOCUMENT_PATH: Final = 256
MAX_DOCUMENTS_IN_MESSAGE: Final = 512
MAX_WHOLE_MANIFESTS: Final = 2  # of one item, in one session
MAX_FETCHED_DOCUMENTS: Final = 10_000_000
MAX_FETCHED_BYTES: Final = 8 * 1024 * MIB  # of all documents but single whole manifests and their rows
# Evidence that is read from afar.
MAX_EVIDENCE_PART: Final = 1 * MIB  # of one file; both ends hold one whole in memory
MAX_EVIDENCE_PARTS: Final = 512  # in one message
MAX_OLDER_BYTES: Final = 512 * KIB  # of a basis, from which one part is patched
MAX_PATCHED: Final = 256 * KIB  # bytes of a part that is patched: a chunk, or a few
MAX_OLDER_PIECES: Final = MAX_OLDER_BYTES // MIN_PIECE + 1
MAX_PATCH_RUNS: Final = MAX_PATCHED // MIN_PIECE + 2
MAX_EVIDENCE_PATHS: Final = 512 * KIB  # bytes of all paths in one message: more would not fit into a frame
MAX_EVIDENCE_AHEAD: Final = 8 * MIB  # asked for and not taken: what fits into what is read ahead never makes a vault wait
MAX_VERSIONS: Final = 64  # of the protocol, in a first message; earlier peers take 16
PROOF: Final = 16  # bytes of a proof of possession, which earlier versions send; it is ignored
MAX_PUBLIC_KEY: Final = 16 * KIB
MAX_PRIVATE_KEY: Final = 64 * KIB  # a key file; RSA 16384 is 13 KiB
MAX_AGENT_REPLY: Final = 256 * KIB  # the limit of OpenSSH's own agent
# What is read at once of a file that says it is empty. Of a number under /proc/sys all has to come with the first read: a second
# one gets nothing.
FIRST_READ: Final = 64 * KIB
# A change time that is so much older than a reading tells of every change before it. Ticks have up to 10 ms on Linux, 1 s on old
# file systems (ext3, some servers). What a program writes through a mapping moves it once, and again only when the system has
# written that out: within 35 s (dirty_expire_centisecs, dirty_writeback_centisecs). The rest: a server whose clock is behind.
RACY_SECONDS: Final = 60
SPACE_RESERVE: Final = 64 * MIB  # kept free on the vault's disk, so that documents and the index can always be written
ENTRIES_RESERVE: Final = 256  # the same in files and folders, where their number is fixed (ext4's inodes)

# Verification. A vault of a million damaged files must not become a report that fills the memory.
MAX_FINDINGS: Final = 10_000  # of one kind; the others are counted
MAX_LISTED_PATHS: Final = 16 * MIB  # of differences that `compare` lists; the others are counted
MAX_DAMAGED_RANGES: Final = 100  # named in one file
MAX_SHOWN_FINDINGS: Final = 16 * MIB  # bytes of them in a verdict that a vault shows afar: the others are counted
MAX_SHOWN_DIGESTS: Final = 250_000  # of records in it: 256 of each chain, where the vault has no more than a thousand items

# Audit reports.
MAX_REPORT_LISTED: Final = 500  # flagged entries, unread ranges, differences: the others are counted
MAX_REPORT_DIFFERENCES: Final = 10  # of each kind, between two acquisitions; `diff` names the others
MAX_VERDICT_FILE: Final = 64 * MIB  # what `verify --json` printed: some twenty kinds of findings, each at most MAX_FINDINGS times
# typst needs about 100 KB for each row of a table: these keep a PDF below 500 MB.
MAX_PDF_FILES: Final = 2000  # rows of all file tables together
MAX_PDF_ROWS: Final = 1000  # rows of all other tables together; the rest is counted
MAX_PDF_ACQUISITIONS: Final = 40  # of one file: a report of more has several
MAX_PDF_VOLUMES: Final = 100  # each holds two files open while a report is written
MAX_PDF_ATTACHMENTS: Final = 32 * MIB  # all together; a manifest that is too large is named by its digest instead
MAX_REPORT_MAPS: Final = 1  # strip maps of one acquisition: its file with most to show
MAX_MAP_RANGES: Final = 20_000  # of one map; neighbours are merged beyond
MAX_FONT_TABLE: Final = 4 * MIB  # which characters a font has; the largest known one has 300 KB
