"""What root may, and what a test starts may not."""

import ctypes
import os

_LIBC = ctypes.CDLL(None, use_errno=True)


def as_ordinary_user() -> None:
    """For preexec_fn: root may read and write whatever a file's mode says; what it starts then may not."""
    drop_from_bounding_set, override, read_search = 24, 1, 2  # PR_CAPBSET_DROP, CAP_DAC_*
    if os.geteuid() == 0:
        for capability in (override, read_search):
            if _LIBC.prctl(drop_from_bounding_set, capability, 0, 0, 0):
                raise OSError(ctypes.get_errno(), "prctl")
