"""``run.py`` with a function that sends signals when it is called for the n-th time, before it does its work.

Signals go to the whole process group, as a terminal's do. SIGKILL is for the process alone, which says what its
descendants are. As ``pressed.py warm`` it imports once what runs need, and is then told on its standard input, a line
of JSON for each, what to run: in a fork of itself, whose first seconds are spent already.
"""

import importlib
import json
import os
import runpy
import signal
import sys
import warnings
from pathlib import Path

WARM = "warm"
HEAVY = ("positronic.training.loop", "lerobot.policies.groot.modeling_groot", "lerobot.policies.pi05.modeling_pi05")


def family(pid):
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [each for child in children for each in (child, *family(child))]


def send(number):
    if number == signal.SIGKILL:
        print("family:", *family(os.getpid()), file=sys.stderr, flush=True)
        os.kill(os.getpid(), number)
    os.killpg(0, number)


def patch(where, call, numbers):
    """``where``: ``module:function`` or ``module:Class.method``."""
    module, _, names = where.partition(":")
    owner = importlib.import_module(module)
    *outer, name = names.split(".")
    for each in outer:
        owner = getattr(owner, each)
    original, calls = getattr(owner, name), []

    def wrapped(*arguments, **named):
        calls.append(1)
        if len(calls) == call:
            for number in numbers:
                send(number)
        return original(*arguments, **named)

    setattr(owner, name, wrapped)


def run(script, where, call, numbers, *overrides):
    """Run ``script`` with what is typed; ``numbers``: of the signals, with commas."""
    # A background job, nohup and a job of a scheduler are deaf to one of them each.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    patch(where, int(call), [int(number) for number in numbers.split(",")])
    sys.argv = [script, *overrides]
    sys.path.insert(0, os.path.dirname(script))
    runpy.run_path(script, run_name="__main__")


def serve_forks():
    """For each line {"typed": ..., "folder": ..., "output": file}, run it in a fork; say how that ended."""
    from positronic.policies import library

    # One of Arrow's allocator, which looks after its thread in a fork itself.
    warnings.filterwarnings("ignore", ".* is multi-threaded", DeprecationWarning)
    library.enter_policies()
    for module in HEAVY:
        importlib.import_module(module)
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if not child:
            become(asked)
            sys.exit()
        print(json.dumps(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])), flush=True)


def become(asked):
    """In the fork: a process of its own group that writes into a file."""
    os.setsid()
    os.chdir(asked["folder"])
    output = os.open(asked["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for descriptor, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, output), (2, output)):
        os.dup2(source, descriptor)
    run(*asked["typed"])


if __name__ == "__main__":
    if sys.argv[1:] == [WARM]:
        serve_forks()
    else:
        run(*sys.argv[1:])
