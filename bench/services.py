"""Time the function over documents whose data keys a service keeps: all of them under one AWS KMS key.

    python -m bench.services PROGRAM

The service is a fake that answers each call after 50 ms, behind the proxy and TLS that the tests have; what is asked
are the true addresses. Beside the limit of calls at once that holds by default stands one call at a time.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from base64 import b64decode, b64encode
from pathlib import Path

from bench import cases
from bench.generate import MODIFIED, resource_list
from krm_sops.limits import FUNCTION
from tests.interop.fakes.internet import Answer, Internet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tests.interop.fakes.internet import Seen

DOCUMENTS = 500
SECONDS = 0.05
ARN = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
ROUNDS = {FUNCTION.remote_calls: 3, 1: 1}
"""How often each number of calls at once is tried; the median counts."""


class Kms:
    """What AWS KMS does with one key, slowly. calls: all that came; peak: the most of them at once."""

    def __init__(self) -> None:
        self.data_keys: dict[bytes, bytes] = {}
        self.calls = self.now = self.peak = 0
        self.lock = threading.Lock()

    def wrap(self, data_key: bytes) -> str:
        blob = os.urandom(32)
        self.data_keys[blob] = data_key
        enc = b64encode(blob).decode()
        return f"    kms:\n    - arn: {ARN}\n      created_at: {MODIFIED!r}\n      enc: {enc}\n      aws_profile: ''"

    def decrypt(self, seen: Seen) -> Answer:
        with self.lock:
            self.calls += 1
            self.now += 1
            self.peak = max(self.peak, self.now)
        time.sleep(SECONDS)
        with self.lock:
            self.now -= 1
        data_key = self.data_keys[b64decode(seen.json()["CiphertextBlob"])]
        return Answer(200, {"KeyId": ARN, "Plaintext": b64encode(data_key).decode()})


def main(program: str) -> None:
    kms = Kms()
    print(f"{DOCUMENTS} documents under one KMS key, {SECONDS * 1e3:.0f} ms a call")
    print("| calls at once, at most | s | calls | most at once | s, calls alone |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder, Internet(Path(folder)) as internet:
        internet.services["kms.eu-west-1.amazonaws.com"] = kms.decrypt
        env = {**internet.env, "PATH": os.environ["PATH"], "AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "x"}
        stream = os.path.join(folder, "stream.yaml")
        Path(stream).write_text(resource_list(DOCUMENTS, DOCUMENTS, kms.wrap), encoding="ascii")
        for at_once, rounds in ROUNDS.items():
            times = []
            for _ in range(rounds):
                kms.calls = kms.peak = 0
                with open(stream, "rb") as source, open(stream + ".out", "wb") as target:
                    begin = time.perf_counter()
                    command = [program, "--max-remote-calls", str(at_once)]
                    subprocess.run(command, env=env, stdin=source, stdout=target, check=True)
                    times.append(time.perf_counter() - begin)
                cases.verify(DOCUMENTS, stream, stream + ".out")
            median = sorted(times)[rounds // 2]
            alone = -(-DOCUMENTS // at_once) * SECONDS
            print(f"| {at_once} | {median:.2f} | {kms.calls} | {kms.peak} | {alone:.2f} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
