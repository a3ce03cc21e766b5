"""Has the prepared program run a command line in this process's place: with its environment, folder and standard descriptors.

Run as: python -I -S prepared_client.py SOCKET ARGUMENT...   It imports next to nothing, for it is started each time.
"""

import json
import os
import socket
import sys

with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as program:
    program.connect(sys.argv[1])
    request = json.dumps([sys.argv[2:], os.getcwd(), dict(os.environ)]).encode("ascii")
    socket.send_fds(program, [request], [0, 1, 2])
    for descriptor in (0, 1, 2):
        os.close(descriptor)  # whoever started this sees the command's end of them alone
    code = int(program.recv(16) or b"1")
sys.exit(code)
