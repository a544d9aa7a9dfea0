"""A mixt server for the length of a test."""
import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request


@contextlib.contextmanager
def served(mixt, model, arguments=()):
    """The address of `mixt serve` with a model; it has to end by SIGTERM with status 0. Where the
    test fails, the end of what the server said (a line for each request) is shown."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile("w+", encoding="utf-8") as log:
        process = subprocess.Popen([mixt, "serve", "-m", model, "--port", str(port), *arguments],
                                   stderr=log, stdout=subprocess.DEVNULL)
        try:
            for _ in range(600):
                if process.poll() is not None:
                    raise RuntimeError(f"{mixt} serve: ended with status {process.returncode}")
                try:
                    with urllib.request.urlopen(f"{url}/health") as answer:
                        if answer.status == 200:
                            break
                except (urllib.error.URLError, OSError):
                    pass
                time.sleep(0.1)
            else:
                raise RuntimeError(f"{mixt} serve: not ready after a minute")
            yield url
        except BaseException:
            log.seek(0)
            sys.stderr.write("".join(log.readlines()[-20:]))
            raise
        finally:
            process.terminate()
            status = process.wait(timeout=60)
    if status != 0:
        raise RuntimeError(f"{mixt} serve: status {status} behind SIGTERM")


def pieces_of(file, wanted):
    """More than `wanted` pieces of a text file, or of the "text" of a .jsonl file's lines: 28 words,
    and the 12 that follow them."""
    pieces = []
    with open(file, encoding="utf-8") as opened:
        texts = [json.loads(line)["text"] for line in opened] if file.endswith(".jsonl") else [opened.read()]
    for text in texts:
        words = text.split()
        for at in range(0, len(words) - 40, 40):
            pieces.append((" ".join(words[at:at + 28]), " " + " ".join(words[at + 28:at + 40])))
        if len(pieces) > wanted:
            break
    return pieces
