"""A Python that starts at once: it forks from a process that has imported PyTorch and the other libraries, which takes seconds.

    python tests/quick_python.py serve SOCKET PROGRAM          imports them, then forks for whoever asks
    python -S -E tests/quick_python.py ask SOCKET ARGUMENTS    what PROGRAM does: asks, passes signals on, ends as the fork ends

The fixture `quick_python` gives tests the path of such a PROGRAM, to be started instead of `sys.executable`, which it is inside,
too. Nothing of this repository is imported beforehand. What it can't imitate (options of Python but -c and -m, variables that
libraries read when they are imported) it leaves to the real interpreter. kill -9 reaches the fork a moment later.
"""

import contextlib
import json
import os
import signal
import socket
import sys

LIBRARIES = (
    "torch", "torch._dynamo", "torch.distributed.run", "torch.utils.tensorboard", "torchvision", "matplotlib.figure",
    "matplotlib.backends.backend_agg", "scipy.linalg", "scipy.stats", "PIL.Image", "pydantic", "typer", "typer.rich_utils",
    "rich.table", "tqdm", "safetensors.torch", "lmdb", "yaml", "filelock", "jinja2", "submitit",
)  # fmt: skip
AT_IMPORT = ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "PYTHONIOENCODING", "MALLOC_CONF")
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def ask(path, arguments):
    """Have the server run these arguments with our streams, folder and environment, and end as that ends."""
    changed = any(os.environ.get(name) != value for name, value in json.loads(os.environ["QUICK_PYTHON_AT_IMPORT"]).items())
    arguments = arguments[1:] if arguments[:1] == ["-u"] else arguments  # output is passed on line by line in any case
    own_number = arguments[:2] == ["-m", "submitit.local._local"]  # submitit knows this process by its number
    if changed or own_number or not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-c", "-m")):
        os.execv(sys.executable, [sys.executable, *arguments])
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(path)
        job = json.dumps(
            {"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd(), "parent": os.getppid()}
        ).encode()
        socket.send_fds(server, [len(job).to_bytes(4, "big")], [0, 1, 2])
        server.sendall(job)
        pid = int.from_bytes(server.recv(4), "big")
        for number in PASSED_ON:
            signal.signal(number, lambda number, _: os.kill(pid, number))
        code = os.waitstatus_to_exitcode(int.from_bytes(server.recv(4), "big"))
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
        os.kill(os.getpid(), -code)
    sys.exit(code)


def serve(path):
    """Fork for each that asks, until stdin ends. Returns only in a fork: what it is to do."""
    import selectors

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    events = selectors.DefaultSelector()
    events.register(listener, selectors.EVENT_READ, None)
    events.register(sys.stdin, selectors.EVENT_READ, None)
    print("ready", flush=True)
    while True:
        for event, _ in events.select():
            if event.fileobj is sys.stdin:
                os._exit(0)
            elif event.fileobj is listener:
                asking, _ = listener.accept()
                head, streams, _, _ = socket.recv_fds(asking, 4, 3)
                job = b""
                while len(job) < int.from_bytes(head, "big"):
                    job += asking.recv(65536)
                if not (pid := os.fork()):
                    for other in list(events.get_map().values()):
                        if other.fileobj is not sys.stdin:
                            os.close(other.fd)
                    os.close(asking.detach())
                    for number, stream in enumerate(streams):
                        os.dup2(stream, number)
                        os.close(stream)
                    return json.loads(job)
                for stream in streams:
                    os.close(stream)
                asking.sendall(pid.to_bytes(4, "big"))
                ended = os.pidfd_open(pid)
                events.register(ended, selectors.EVENT_READ, (pid, asking, ended))
                events.register(asking, selectors.EVENT_READ, (pid, asking, ended))
            else:
                pid, asking, ended = event.data
                if event.fileobj is asking:  # whoever asked is gone
                    os.kill(pid, signal.SIGKILL)
                _, status = os.waitpid(pid, 0)
                with contextlib.suppress(OSError):
                    asking.sendall(status.to_bytes(4, "big"))
                for place in (asking, ended):
                    events.unregister(place)
                asking.close()
                os.close(ended)
                break  # the other event of this fork, if there is one, is of the past


def run(job, program):
    """In a fork: what `python ARGUMENTS` would do, in that folder and environment."""
    import runpy

    import torch

    first, *rest = job["arguments"]
    os.environ.clear()
    os.environ.update(job["environment"])
    # A run follows the process that started it (study.launch.follow_parent): here that is whoever forked it.
    os.environ.update({name: str(os.getppid()) for name in ("GAN_COMPARE_PID",) if name in os.environ})
    os.chdir(job["folder"])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell started the tests in the background
    sys.executable = program
    sys.stdout.reconfigure(line_buffering=True)
    sys.path[0:1] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    if "OMP_NUM_THREADS" in os.environ:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    if first == "-c":
        sys.argv = ["-c", *rest[1:]]
        sys.path.insert(0, "")
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    elif first == "-m":
        sys.argv = rest
        sys.path.insert(0, job["folder"])
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        script = os.path.abspath(first)
        sys.argv = [first, *rest]
        sys.path.insert(0, os.path.dirname(script))
        runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    if sys.argv[1] == "ask":
        ask(sys.argv[2], sys.argv[3:])
    else:
        import importlib

        os.environ["KINETO_LOG_LEVEL"] = "6"  # as gan.timing sets it before it imports PyTorch
        for library in LIBRARIES:
            importlib.import_module(library)
        run(serve(sys.argv[2]), sys.argv[3])
