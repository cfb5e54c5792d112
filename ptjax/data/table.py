"""Tables in files: JSON lines, JSON, CSV, TSV, Parquet -> rows.

Owns the formats and the sentence that says which line is broken. A value from
CSV or TSV is text; an empty one is ''. Knows no column by name.
"""

import csv
import gzip
import io
import json
import pathlib
import zlib
from collections.abc import Iterator
from typing import Any

from ptjax import files
from ptjax.config import UserError

Row = dict[str, Any]
_WRAPPERS = ('data', 'rows', 'examples', 'Instances')
# ValueError: also a number of more digits than Python reads.
_NO_JSON = (ValueError, RecursionError)


def read(path: pathlib.Path) -> list[Row]:
  """The rows of a file; its ending says what it is.

  Raises:
    UserError: no such file or format, or a line that is broken.
  """
  readers = {
    '.jsonl': jsonl,
    '.ndjson': jsonl,
    '.json': _json,
    '.csv': _csv,
    '.tsv': _tsv,
    '.parquet': _parquet,
  }
  if not path.is_file():
    raise UserError(f'there is no file {str(path)!r}{files.near(path)}')
  ending = path.with_suffix('') if path.suffix == '.gz' else path
  reader = readers.get(ending.suffix.lower())
  if reader is None:
    raise UserError(
      f'{path} ends in {ending.suffix or "nothing"!r}; it can be '
      f'{", ".join(readers)}, the text ones also with .gz behind it'
    )
  out = list(reader(path))
  if not out:
    raise UserError(f'{path} has no rows')
  return out


def jsonl(path: pathlib.Path) -> Iterator[Row]:
  """One object a line; empty lines are passed over."""
  with _open(path) as file:
    for number, line in enumerate(_lines(file, path), 1):
      if not line.strip():
        continue
      where = f'{path}, line {number}'
      try:
        row = json.loads(line)
      except _NO_JSON as error:
        raise UserError(f'{where} is no JSON: {error}') from None
      yield _object(row, where)


def lines(path: pathlib.Path) -> list[str]:
  """The lines of a text file, also with .gz behind it, without their ends."""
  with _open(path, newline='\n') as file:
    return [line.rstrip('\r\n') for line in _lines(file, path)]


def _json(path: pathlib.Path) -> Iterator[Row]:
  with _open(path) as file:
    text = ''.join(_lines(file, path))
  try:
    found = json.loads(text)
  except _NO_JSON as error:
    # Many a .json is JSON lines; those say better what is wrong with them.
    if str(error).startswith('Extra data'):
      yield from jsonl(path)
      return
    raise UserError(f'{path} is no JSON: {error}') from None
  if isinstance(found, dict):
    # {"data": [row, …]}, as several data sets have it; else one row.
    lists = [found[k] for k in _WRAPPERS if isinstance(found.get(k), list)]
    found = lists[0] if len(lists) == 1 else [found]
  if not isinstance(found, list):
    raise UserError(f'{path} holds no list of objects')
  for number, row in enumerate(found):
    yield _object(row, f'{path}, item {number}')


def _csv(path: pathlib.Path) -> Iterator[Row]:
  return _separated(path, delimiter=',', quoting=csv.QUOTE_MINIMAL)


def _tsv(path: pathlib.Path) -> Iterator[Row]:
  # GLUE's files have stray quotes in them, which are text.
  return _separated(path, delimiter='\t', quoting=csv.QUOTE_NONE)


def _separated(path: pathlib.Path, **form: Any) -> Iterator[Row]:
  csv.field_size_limit(2**31 - 1)
  with _open(path) as file:
    # Lines go to the reader with their ends, for a field may hold some.
    reader = csv.reader(_lines(file, path), strict=True, **form)
    try:
      header = next(reader, [])
      double = {name for name in header if header.count(name) > 1}
      if double:
        raise UserError(f'{path} has the column {double.pop()!r} twice')
      for row in reader:
        if not row:  # an empty line, which may be one empty value
          if len(header) > 1:
            continue
          row = ['']
        if len(row) != len(header):
          raise UserError(
            f'{path}, line {reader.line_num} has {len(row)} columns; the '
            f'first line names {len(header)}: {", ".join(header)}'
          )
        yield dict(zip(header, row))
    except csv.Error as error:
      raise UserError(f'{path}, line {reader.line_num}: {error}') from None


def _parquet(path: pathlib.Path) -> Iterator[Row]:
  try:
    from pyarrow import lib, parquet
  except ImportError:
    raise UserError(
      f'{path}: Parquet needs pyarrow; pip install pyarrow'
    ) from None
  try:
    yield from parquet.read_table(path).to_pylist()
  except lib.ArrowException as error:
    first = str(error).splitlines()[0]
    raise UserError(f'{path} is no Parquet file: {first}') from None


def _open(path: pathlib.Path, *, newline: str = '') -> io.TextIOBase:
  opener = gzip.open if path.suffix == '.gz' else open
  # utf-8-sig: a byte-order mark is not part of the first column's name.
  return opener(path, 'rt', encoding='utf-8-sig', newline=newline)


def _lines(file: io.TextIOBase, path: pathlib.Path) -> Iterator[str]:
  try:
    yield from file
  except UnicodeDecodeError as error:
    raise UserError(f'{path} is not UTF-8: {error}') from None
  except (gzip.BadGzipFile, zlib.error, EOFError) as error:
    raise UserError(f'{path} is no whole gzip file: {error}') from None


def _object(row: Any, where: str) -> Row:
  if not isinstance(row, dict):
    raise UserError(f'{where} is {json.dumps(row)[:40]}, not an object')
  return row
