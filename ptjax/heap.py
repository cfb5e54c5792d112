"""The heap of a process that computes on a CPU: kept, and in large pages.

Owns what the C library is told. By itself glibc maps what is large anew at each
step and returns it, so that a step's arrays come from the system in pages of
4 KiB, one fault each: a seventh of a small T5's step. Knows no array.
"""

import ctypes
import functools
import importlib.metadata
import importlib.util
import os

# mallopt's parameters and madvise's advice, as glibc's and Linux's headers say.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_HUGEPAGE = 14
_LARGE = 2 << 20  # bytes of a large page


def keep_on_cpu() -> bool:
  """`keep`, before jax starts its threads where it can only be a CPU's.

  A thread stays with the heap that it first took from.
  """
  asked = os.environ.get('JAX_PLATFORMS')
  if asked == 'cpu' or not asked and not _accelerated():
    return keep('cpu')
  import jax

  return keep(jax.default_backend())


def _accelerated() -> bool:
  """Whether jax may find another device than the CPU."""
  plugins = importlib.metadata.entry_points(group='jax_plugins')
  return bool(plugins) or importlib.util.find_spec('libtpu') is not None


@functools.cache
def keep(platform: str) -> bool:
  """From now on all threads take from one heap, which never shrinks.

  Half of the machine's memory is reserved for it, in addresses alone: a page is
  taken when it is first written. What a process once held it goes on holding.
  Only the first call does anything, and only where a CPU computes.

  Returns:
    Whether the C library was one that can be told so, and had the addresses.
  """
  if platform != 'cpu':
    return False
  libc = ctypes.CDLL(None)
  if not all(hasattr(libc, name) for name in ('mallopt', 'sbrk', 'madvise')):
    return False
  libc.sbrk.restype = libc.malloc.restype = ctypes.c_void_p
  libc.sbrk.argtypes = [ctypes.c_ssize_t]
  libc.malloc.argtypes = [ctypes.c_size_t]
  libc.free.argtypes = [ctypes.c_void_p]
  libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
  libc.mallopt(_MMAP_MAX, 0)
  libc.mallopt(_TRIM_THRESHOLD, -1)
  libc.mallopt(_ARENA_MAX, 1)
  start = libc.sbrk(0)
  held = libc.malloc(_memory() // 2)
  if not held:
    return False
  libc.free(held)
  start, end = -(-start // _LARGE) * _LARGE, libc.sbrk(0) // _LARGE * _LARGE
  return end > start and not libc.madvise(start, end - start, _HUGEPAGE)


def _memory() -> int:
  """Bytes of this machine."""
  return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
