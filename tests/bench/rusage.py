"""Runs a command and appends what it used to a file: `python -I -S rusage.py FILE COMMAND...`, as one JSON object a line.

It is started in front of both ends of a transfer, the far one inside the SSH session, where nobody else could ask the kernel.
It imports next to nothing, because a process counts as its own peak what its parent held when it was forked: 8 MB or so here.
The numbers are those of the command and of all descendants that were waited for; the peak is that of the largest one.
"""

import os
import sys
import time


def main() -> int:
    file, command = sys.argv[1], sys.argv[2:]
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        try:
            os.execvp(command[0], command)
        except OSError as error:
            os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        finally:
            os._exit(127)  # noqa: TID251  # the forked half of this process has nothing to write
    _, status, used = os.wait4(child, 0)
    wall = time.monotonic() - started
    line = f'{{"wall": {wall:.6f}, "cpu": {used.ru_utime + used.ru_stime:.6f}, "peak_kib": {used.ru_maxrss}}}\n'
    target = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(target, line.encode())
    os.close(target)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
