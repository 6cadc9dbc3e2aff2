"""`python -m eventlog.demo.tether MODULE ARGS…` runs MODULE, and ends it when the process that started it is gone.

Stdin is the tether: a pipe whose other end the starter holds. The kernel closes that end however the starter dies.
"""

import os
import runpy
import signal
import sys
import threading

_GRACE_S = 4.0


def main() -> None:
    """Run the module that the arguments name, as `python -m` would."""
    tether = os.dup(0)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.close(nowhere)
    threading.Thread(target=_end_with, args=(tether,), daemon=True).start()
    module, sys.argv = sys.argv[1], sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _end_with(tether: int) -> None:
    while os.read(tether, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    # A process that does not end by itself is ended.
    threading.Event().wait(_GRACE_S)
    os._exit(1)


if __name__ == "__main__":
    main()
