"""As much of Google's object store as a reader asks for, on 127.0.0.1.

Objects are files under a folder, whose own folders are buckets.
"""

import contextlib
import http.server
import json
import pathlib
import re
import threading
import urllib.parse
from collections.abc import Iterator


class Store(http.server.ThreadingHTTPServer):
  """`GET /storage/v1/b/BUCKET/o/OBJECT`: what it is; by `?alt=media` its
  bytes, all or a range.

  Attributes:
    asked: each object whose bytes were asked for, as BUCKET/OBJECT.
    sent: how many bytes went out in answers to ranges.
    status: what is answered instead, such as 403; 0 = what is asked for.
  """

  def __init__(self, root: pathlib.Path):
    super().__init__(('127.0.0.1', 0), _Handler)
    self.root, self.asked, self.sent, self.status = root, [], 0, 0

  @property
  def url(self) -> str:
    return f'http://127.0.0.1:{self.server_port}'


class _Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = 'HTTP/1.1'

  def do_GET(self):
    url = urllib.parse.urlsplit(self.path)
    found = re.fullmatch('/storage/v1/b/([^/]+)/o/(.+)', url.path)
    name = f'{found[1]}/{urllib.parse.unquote(found[2])}'
    file = self.server.root / name
    if self.server.status or not file.is_file():
      self._answer(self.server.status or 404)
    elif 'alt=media' in url.query:
      self.server.asked.append(name)
      self._send(file.read_bytes())
    else:
      known = {'name': name, 'size': file.stat().st_size, 'generation': '1'}
      self._answer(200, json.dumps(known).encode())

  def _send(self, content: bytes) -> None:
    asked = re.fullmatch(r'bytes=(\d+)-(\d*)', self.headers['Range'] or '')
    if not asked:
      self._answer(200, content)
      return
    start, last = int(asked[1]), int(asked[2] or len(content) - 1)
    part = content[start : last + 1]
    where = f'bytes {start}-{start + len(part) - 1}/{len(content)}'
    if part:
      self.server.sent += len(part)
      self._answer(206, part, **{'Content-Range': where})
    else:
      self._answer(416)

  def _answer(self, status: int, content: bytes = b'', **headers: str) -> None:
    self.send_response(status)
    headers |= {'Content-Length': len(content), 'x-goog-generation': '1'}
    for key, value in headers.items():
      self.send_header(key, str(value))
    self.end_headers()
    self.wfile.write(content)

  def log_message(self, *_):
    """Says nothing."""


@contextlib.contextmanager
def serving(root: pathlib.Path) -> Iterator[Store]:
  """A store for as long as it is needed."""
  with Store(root) as store:
    thread = threading.Thread(target=store.serve_forever, daemon=True)
    thread.start()
    try:
      yield store
    finally:
      store.shutdown()
      thread.join()
