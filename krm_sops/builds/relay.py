"""What kustomize starts instead of one of our functions: it hands over to the process that started the build.

Run by its path, with a socket as its argument; it imports nothing of krm_sops.
"""

from __future__ import annotations

import os
import socket
import sys


def main() -> int:
    """Working folder, a line break, all of stdin; back come the exit status as one byte, and what goes to stdout."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(sys.argv[1])
        connection.sendall(os.fsencode(os.getcwd()) + b"\n" + sys.stdin.buffer.read())
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := connection.recv(1 << 16):
            answer += chunk
    sys.stdout.buffer.write(answer[1:])
    sys.stdout.buffer.flush()
    return answer[0] if answer else 1


if __name__ == "__main__":
    sys.exit(main())
