"""A process in which libtpu compiles, since its compiler may end it.

Owns that process and the sentence on its death. Knows no plan.
"""

import concurrent.futures
import multiprocessing
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from ptjax.config import UserError


class Apart:
  """Functions are called in one process after this; arguments are pickled."""

  def __init__(self):
    self._process = concurrent.futures.ProcessPoolExecutor(
      1, mp_context=multiprocessing.get_context('spawn')
    )

  def __enter__(self) -> 'Apart':
    return self

  def __exit__(self, *_: Any) -> None:
    self._process.shutdown()

  def ask(self, what: str, function: Callable[..., Any], *args: Any) -> Any:
    """function(*args).

    Raises:
      UserError: the process died of it; `what` says what was compiled.
    """
    try:
      return self._process.submit(function, *args).result()
    except BrokenProcessPool:
      raise UserError(
        f'{what}: the compiler itself crashed, and this program cannot be '
        'planned with this libtpu; another remat= (full, linear, none) may '
        'compile, as may another size of slice'
      ) from None
