"""Large arrays in large memory pages: 1.5 times the training speed on CPUs.

XLA takes each step's temporaries afresh from the C library. In pages of 4 kB most of that time
goes to the kernel, which maps and clears them one by one; the C library can ask for pages of 2 MB.
"""

import os
import sys

_VARIABLE = "GLIBC_TUNABLES"
_SETTING = "glibc.malloc.hugetlb=1"


def use_huge_pages() -> None:
    """Starts the running script anew with huge pages, where Linux's C library can give them.

    To be called first thing under `if __name__ == "__main__":`; the process keeps its number. Does
    nothing where the variable GLIBC_TUNABLES is set already, whatever it says.

    Measured: 72 -> 110 clips/s for `configs/motion.py` on 2 cores, in turn on one machine.
    """
    if sys.platform != "linux" or _VARIABLE in os.environ or not sys.orig_argv:
        return
    environment = os.environ | {_VARIABLE: _SETTING}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
