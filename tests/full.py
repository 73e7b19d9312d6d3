"""A disk that is full, as far as this process can see."""

import contextlib
import resource


@contextlib.contextmanager
def full_disk(size):
    """No file can grow beyond ``size`` bytes: the kernel refuses, as it does on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
