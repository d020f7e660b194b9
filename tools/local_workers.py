"""Starts several workers of one training on this machine, to try what otherwise takes several machines.

python tools/local_workers.py --workers=2 --mode=train --hparams=testing --model_dir=/tmp/workers

Every flag but --workers goes to tools/main.py. The first worker, the chief, prints; what the others write to their
error stream comes with their number. When one fails, or this process is told to stop, the others are told to stop.
"""

import json
import os
import pathlib
import signal
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
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
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
        _end(workers)


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


def _end(workers, patience=300):
    """Tells the workers that are still there to stop, and kills those that do not; TensorFlow may not listen."""
    for worker in workers:
        if worker.poll() is None:
            worker.terminate()
    deadline = time.monotonic() + patience
    for worker in workers:
        try:
            worker.wait(max(deadline - time.monotonic(), 0.1))
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            worker.kill()
            worker.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
