"""Running commands and timing them, by the monotonic clock."""

import ctypes
import os
import signal
import time

PR_SET_CHILD_SUBREAPER = 36
DEV_NULL = os.open("/dev/null", os.O_RDWR)

# How long a command may take, in seconds. A hang fails the run instead of holding it up.
LIMIT = 900


class Failed(Exception):
    """A command failed, or printed what it should not have."""


def adopt_orphans():
    """A container's process, which outlives the command that made it, becomes our child: so its
    end is waited for like any other, without polling."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "become a subreaper")


def spawn(command, stdout=DEV_NULL, stderr=None, env=None):
    """Starts `command`, found by its path, the cheapest way there is: posix_spawn, which copies
    no page tables. Returns its pid."""
    redirect = [(os.POSIX_SPAWN_DUP2, DEV_NULL, 0), (os.POSIX_SPAWN_DUP2, stdout, 1)]
    if stderr is not None:
        redirect.append((os.POSIX_SPAWN_DUP2, stderr, 2))
    return os.posix_spawn(
        command[0], command, os.environ if env is None else env, file_actions=redirect
    )


def wait(pid, command):
    """Waits for the end of `pid`, which must be a success."""
    signal.alarm(LIMIT)
    _, status = os.waitpid(pid, 0)
    signal.alarm(0)
    code = os.waitstatus_to_exitcode(status)
    if code:
        raise Failed(f"exit code {code}: {' '.join(command)}")


def run(command, **options):
    """Runs `command` to its successful end."""
    wait(spawn(command, **options), command)


def seconds(action, *arguments):
    """How long `action` takes."""
    begin = time.monotonic()
    action(*arguments)
    return time.monotonic() - begin


def output(command, env=None):
    """What `command` prints to standard output and standard error together."""
    reader, writer = os.pipe()
    pid = spawn(command, stdout=writer, stderr=writer, env=env)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        text = stream.read().decode(errors="replace")
    try:
        wait(pid, command)
    except Failed as failed:
        raise Failed(f"{failed}\n{text}") from None
    return text
