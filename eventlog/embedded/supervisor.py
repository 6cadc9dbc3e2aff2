"""The supervisor: a small detached process that owns one server for as long as it has users.

Run by file path, in isolated mode: `python -I -S supervisor.py BINARY DATA_DIR SOCKET`. Standard library only, and
nothing of this package: it should start fast and stay small. It holds `supervisor.lock`. It ends when the last user
has gone, at SIGTERM, when the server keeps failing, or when the data directory is deleted; its output goes to the
server's log.
"""

import contextlib
import fcntl
import mmap
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

SUPERVISOR_LOCK = "supervisor.lock"
USERS_LOCK = "users.lock"
SERVER_LOCK = "server.lock"
SUPERVISOR_PID = "supervisor.pid"
SERVER_PID = "redis.pid"
SOCKET = "redis.sock"
CONFIG = "redis.conf"
LOG = "redis.log"
APPEND_ONLY = "appendonlydir"
MANIFEST = "appendonly.aof.manifest"
TORN = "a crash has torn"
# What a file's name ends in until the file is whole.
HALF_DONE = ".new"

STOP_S = 10.0
SERVER_LOCK_S = 10.0
# A server that ran this long has not failed "again": its failures are counted from one.
LONG_ENOUGH_S = 10.0
MOST_FAILURES = 5
BACKOFF_S = 0.025
# How long a server may go on that writes to files which were deleted.
LOOK_S = 0.25
# How soon the socket of a server is looked for that has just been started.
SOCKET_S = 0.005
PR_SET_PDEATHSIG = 1


class Supervisor:
    """Keeps one server running until it has no users, then stops it and removes its socket and pid files.

    The main thread starts and watches the server: on Linux a child gets a signal when the *thread* dies
    that made it. One other thread waits for the last user to go.
    """

    def __init__(self, binary: str, data_dir: str, socket_path: str) -> None:
        self._binary = binary
        self._data_dir = data_dir
        self._socket = socket_path
        self._stopping = threading.Event()
        self._has_manifest = False
        self._has_socket = False
        self._server: subprocess.Popen[bytes] | None = None
        self._users_fd = _open_lock(self._file(USERS_LOCK))
        self._wakeup_read, self._wakeup_write = os.pipe()
        os.set_blocking(self._wakeup_read, False)
        os.set_blocking(self._wakeup_write, False)

    def run(self) -> None:
        """Supervise until there is no reason to go on."""
        self._listen_to_signals()
        _write(self._file(SUPERVISOR_PID), f"{os.getpid()}\n")
        threading.Thread(target=self._await_last_user, daemon=True).start()
        try:
            self._keep_running()
        finally:
            self._stop_server()
            self._remove_files()

    def _file(self, *names: str) -> str:
        return os.path.join(self._data_dir, *names)

    # -- signals and users -------------------------------------------------------------------------------

    def _listen_to_signals(self) -> None:
        signal.set_wakeup_fd(self._wakeup_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, lambda *_: self._stopping.set())
        # Handlers, not SIG_IGN, which the server would inherit.
        for ignored in (signal.SIGCHLD, signal.SIGINT, signal.SIGHUP):
            signal.signal(ignored, lambda *_: None)
        # A mask outlives exec: the process that started us may have blocked what we need to hear.
        signal.pthread_sigmask(signal.SIG_SETMASK, [])

    def _await_last_user(self) -> None:
        fcntl.flock(self._users_fd, fcntl.LOCK_EX)
        self._stopping.set()
        os.write(self._wakeup_write, b"\0")

    def _rest(self, timeout_s: float | None, until: Callable[[], bool]) -> bool:
        """Sleep until `until()`, at most `timeout_s`; signals and the last user's leaving wake us."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not until():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            if select.select([self._wakeup_read], [], [], left)[0]:
                os.read(self._wakeup_read, 512)
        return True

    # -- the server -------------------------------------------------------------------------------

    def _keep_running(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            self._start_server()
            while not self._rest(
                LOOK_S if self._has_socket else SOCKET_S, lambda: self._stopping.is_set() or self._ended()
            ):
                if self._lost_files():
                    return
                self._look_for_socket()
            if self._stopping.is_set():
                return
            lived_s = time.monotonic() - began
            failures = 1 if lived_s >= LONG_ENOUGH_S else failures + 1
            _log(f"the server {self._ending()} after {lived_s:.1f} s")
            if failures == MOST_FAILURES:
                _log("giving up")
                return
            self._rest(BACKOFF_S * 2**failures, self._stopping.is_set)

    def _lost_files(self) -> bool:
        """Kill the server if its files were deleted: what it acknowledges from then on would be nowhere."""
        had_manifest, self._has_manifest = self._has_manifest, os.path.exists(self._file(APPEND_ONLY, MANIFEST))
        if self._has_manifest >= had_manifest and _same_file(self._users_fd, self._file(USERS_LOCK)):
            return False
        _log(f"{self._data_dir} was deleted while the server ran: the server is killed")
        if self._server is not None:
            # Not stopped in order: it would remove the socket of a process that made the directory anew.
            self._server.kill()
            self._server.wait()
        return True

    def _look_for_socket(self) -> None:
        """Stop the server if its socket was deleted, as cleaners of /tmp do: it is started again, with a new one."""
        if os.path.exists(self._socket):
            self._has_socket = True
        elif self._has_socket:
            folder = os.path.dirname(self._socket)
            os.makedirs(folder, 0o700, exist_ok=True)
            if folder != self._data_dir and os.lstat(os.path.dirname(folder)).st_uid != os.geteuid():
                return  # another user has made it, and could put a socket there
            _log(f"{self._socket} was deleted while the server ran: it is started again")
            self._stop_server()

    def _start_server(self) -> None:
        self._server = None
        self._has_socket = False
        self._has_manifest = os.path.exists(self._file(APPEND_ONLY, MANIFEST))
        lock = _open_lock(self._file(SERVER_LOCK))
        try:
            if self._rest_for_lock(lock):
                _unlink(self._socket)
                _unlink(self._file(SERVER_PID))
                self._cut_torn_file()
                self._server = self._spawn(lock)
        finally:
            # From here on the server alone holds the lock, for exactly as long as it lives.
            os.close(lock)
        if self._server is not None:
            _write(self._file(SERVER_PID), f"{self._server.pid}\n")

    def _rest_for_lock(self, lock: int) -> bool:
        """Take `server.lock`: a background rewrite can outlive the server it belonged to for a moment."""
        deadline = time.monotonic() + SERVER_LOCK_S
        while not _try_lock(lock):
            if self._rest(0.02, self._stopping.is_set):
                return False
            if time.monotonic() > deadline:
                _log("another server still uses the data")
                return False
        return True

    def _cut_torn_file(self) -> None:
        """Cut off the transaction that a crash has torn: Redis leaves its first half for the next start to apply.

        A script's writes are one transaction. Redis cuts a torn file behind the last whole command, also within a
        transaction, whose commands are then joined with those of the next one. Valkey 9 cuts where this does.
        """
        try:
            with open(self._file(APPEND_ONLY, MANIFEST)) as manifest:
                # Lines of names and values: file appendonly.aof.1.incr.aof seq 1 type i
                files = [dict(zip(words[::2], words[1::2], strict=True)) for words in map(str.split, manifest)]
            last = [file["file"] for file in files if file["type"] == "i"][-1:]
            if last and (begun := _open_transaction(path := self._file(APPEND_ONLY, *last))) is not None:
                _log(f"{TORN} {path} within a transaction: cut off at byte {begun}, where that began")
                os.truncate(path, begun)
        except FileNotFoundError:
            return
        except (OSError, LookupError, ValueError) as error:
            _log(f"the append-only file cannot be looked at: {error}")

    def _spawn(self, lock: int) -> "subprocess.Popen[bytes] | None":
        try:
            # On standard input: in a file's name Redis expands ? and *, and if nothing matches it
            # listens on port 6379 with its defaults, without a word.
            with open(self._file(CONFIG), "rb") as config:
                return subprocess.Popen(
                    [self._binary, "-"],
                    stdin=config,
                    pass_fds=[lock],
                    # Redis ends at once where the locale of the environment is not installed.
                    env={**os.environ, "LC_ALL": "C"},
                    preexec_fn=_death_with_parent(),
                )
        except OSError as error:
            _log(f"{self._binary} cannot be run: {error}")
            return None

    def _ended(self) -> bool:
        return self._server is None or self._server.poll() is not None

    def _ending(self) -> str:
        if self._server is None:
            return "could not be started"
        status = self._server.returncode
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        return f"(pid {self._server.pid}) {how}"

    def _stop_server(self) -> None:
        if self._server is None or self._ended() or self._lost_files():
            return
        self._server.terminate()
        if not self._rest(STOP_S, self._ended):
            _log(f"the server (pid {self._server.pid}) did not stop within {STOP_S} s and is killed")
            self._server.kill()
            self._server.wait()

    def _remove_files(self) -> None:
        # Where the directory was deleted and made anew, its files are another supervisor's.
        if _same_file(self._users_fd, self._file(USERS_LOCK)):
            for path in (self._socket, self._file(SERVER_PID), self._file(SUPERVISOR_PID)):
                _unlink(path)


def _death_with_parent() -> Callable[[], None] | None:
    """What a child runs before exec so that the kernel ends it with us; None where there is no such thing."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        import ctypes
    except ImportError:
        return None
    prctl = ctypes.CDLL(None).prctl
    supervisor = os.getpid()

    def request_signal() -> None:
        prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGTERM))
        # The supervisor may have died before this request.
        if os.getppid() != supervisor:
            os._exit(1)

    return request_signal


def _open_lock(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)


def _open_transaction(path: str) -> int | None:
    """Where the transaction begins that an append-only file ends within; None if its last one is whole.

    No payload looks like these commands: JSON has no line breaks within texts.
    """
    with open(path, "rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            begun = text.rfind(b"*1\r\n$5\r\nMULTI\r\n")
            return begun if begun >= 0 and text.find(b"*1\r\n$4\r\nEXEC\r\n", begun) < 0 else None


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _same_file(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except OSError:
        return False


def _write(path: str, text: str) -> None:
    """Write a small file so that a reader sees all of it or the one before."""
    half_done = path + HALF_DONE
    try:
        with open(half_done, "w") as file:
            file.write(text)
        os.replace(half_done, path)
    except OSError as error:
        _log(f"{path} cannot be written: {error}")


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _log(line: str) -> None:
    # Standard output is the server's log; that its disk is full must not end the supervision.
    with contextlib.suppress(OSError):
        os.write(1, f"{os.getpid()}:supervisor {time.strftime('%d %b %Y %H:%M:%S')} {line}\n".encode())


def main(arguments: list[str]) -> None:
    """Detach from the process that started us, so that it neither waits for us nor reaps us, and supervise.

    Once the detaching process has ended, the supervisor holds its lock, or there is none.
    """
    binary, data_dir, socket_path = arguments
    # Others look for an instant whether it is held. That they start no other supervisor is kept by `start.lock`.
    fcntl.flock(_open_lock(os.path.join(data_dir, SUPERVISOR_LOCK)), fcntl.LOCK_EX)
    if os.fork():
        os._exit(0)
    Supervisor(binary, data_dir, socket_path).run()


if __name__ == "__main__":
    main(sys.argv[1:])
