"""Starts several workers of one training on this machine, to try what otherwise takes several machines.

python tools/local_workers.py --workers=2 --mode=train --hparams=testing --model_dir=/tmp/workers

Every flag but --workers goes to tools/main.py. The first worker, the chief, prints; what the others write to their
error stream comes with their number. When one fails, the others are ended.
"""

import json
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time

MAIN = pathlib.Path(__file__).parent / "main.py"


def main(arguments):
    """Runs the workers; the first exit status that is not 0, or 0."""
    number, rest = _number(arguments)
    addresses = [f"127.0.0.1:{port}" for port in _free_ports(number)]
    workers = [_start(index, addresses, rest) for index in range(number)]
    try:
        while True:
            status = [worker.poll() for worker in workers]
            failed = [code for code in status if code]
            if failed or None not in status:
                return failed[0] if failed else 0
            time.sleep(0.2)
    except KeyboardInterrupt:
        return 130
    finally:
        for worker in workers:
            _end(worker)


def _number(arguments):
    """(how many workers, the other arguments)."""
    given = [argument.partition("=")[2] for argument in arguments if argument.startswith("--workers=")]
    if len(given) > 1 or not all(text.isdigit() and int(text) for text in given):
        sys.exit(f"--workers: expected a whole number of at least 1. Received: {', '.join(given)}")
    return int(given[0]) if given else 2, [a for a in arguments if not a.startswith("--workers=")]


def _free_ports(number):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports


def _start(index, addresses, arguments):
    task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
    worker = subprocess.Popen(
        [sys.executable, str(MAIN), *arguments],
        env={**os.environ, "TF_CONFIG": json.dumps(task)},
        stdout=subprocess.DEVNULL if index else None,
        stderr=subprocess.PIPE if index else None,
        text=True,
    )
    if index:
        threading.Thread(target=_relay, args=(index, worker.stderr), daemon=True).start()
    return worker


def _relay(index, lines):
    for line in lines:
        print(f"[worker {index}] {line}", end="", file=sys.stderr, flush=True)


def _end(worker, patience=5):
    """Kills a worker that is still there; TensorFlow may not listen to SIGTERM."""
    if worker.poll() is None:
        worker.terminate()
    try:
        worker.wait(patience)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
