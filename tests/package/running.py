"""How these tests run a program."""

import os
import subprocess


def run(*command, **keywords):
    """What it prints; AssertionError, with that, when it fails."""
    done = subprocess.run(list(map(os.fspath, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **keywords)
    if done.returncode:
        raise AssertionError(f"{' '.join(map(os.fspath, command))}: {done.returncode}\n{done.stdout}")
    return done.stdout
