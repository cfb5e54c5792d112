"""The borders between folders, held over the real imports.

Models know nothing of methods; methods nothing of networks; tasks nothing of
ids and arrays; predict nothing of text; weights only read foreign files and
export only speaks foreign formats; only `tuned` sees model and method together.
"""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parents[1] / 'ptjax'

# Who may import whom. Everybody may say what a user's mistake is (config), and
# write a file (files).
MAY = {
  'config': {'typed'},
  'typed': set(),
  'cross_entropy': set(),
  'bucket': {'progress'},
  'mirror': {'bucket', 'processes', 'progress', 'relay', 'stop'},
  'files': set(),
  'tree': set(),
  'optim': {'tree'},
  'checkpoint': {'processes', 'relay'},
  'workdir': {'files'},
  'mesh': set(),
  'processes': set(),
  'relay': {'processes'},
  'stop': {'processes'},
  'vitals': {'step'},
  'memory': {'models', 'cross_entropy'},
  'population': set(),
  'interpret': {'interpret', 'data', 'files', 'workdir', 'writer'},
  'writer': {'progress'},
  'progress': set(),
  'models': {'models'},
  'methods': {'methods'},
  'predict': {'predict'},
  'tasks': {'tasks'},
  'data': {'bucket', 'data', 'tasks', 'miniature'},
  'weights': {'bucket', 'weights', 'models'},
  'export': {'bucket', 'export', 'tree', 'weights'},
  'miniature': {'miniature', 'data', 'tasks'},
  'objectives': {'miniature', 'models'},
  'tuned': {'tuned', 'models', 'methods', 'predict', 'tree'},
  'side_by_side': {'mesh'},
  'step': {'tuned', 'predict', 'cross_entropy', 'side_by_side'},
  'answer': {'tuned', 'predict', 'side_by_side'},
  'cpu': set(),
}
# What a folder must not know, whoever offers it.
NEVER = {
  'tasks': {'jax', 'flax', 'optax', 'transformers', 'torch'},
  'data': {'jax', 'flax', 'optax', 'torch'},
  'predict': {'transformers', 'tokenizers', 'datasets'},
  'models': {'transformers', 'tokenizers', 'datasets', 'optax', 'torch'},
  'methods': {'flax', 'transformers', 'tokenizers', 'optax'},
  'interpret': {'jax', 'flax', 'transformers', 'tokenizers'},
}


def imports(path: pathlib.Path) -> set[str]:
  """Dotted names a file imports, at the top or inside a function."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f'{path}: relative import'
      found |= {f'{node.module}.{alias.name}' for alias in node.names}
  return found


def files(room: str) -> list[pathlib.Path]:
  folder = PACKAGE / room
  return (
    sorted(folder.rglob('*.py'))
    if folder.is_dir()
    else [PACKAGE / f'{room}.py']
  )


@pytest.mark.parametrize('room', MAY)
def test_a_room_imports_only_what_it_may(room):
  for path in files(room):
    rooms = {
      name.split('.')[1] for name in imports(path) if name.startswith('ptjax.')
    }
    beyond = rooms - MAY[room] - {'config', 'files'}
    assert not beyond, f'{path.name} imports {", ".join(sorted(beyond))}'


@pytest.mark.parametrize('room', NEVER)
def test_a_room_does_not_know(room):
  for path in files(room):
    known = {name.split('.')[0] for name in imports(path)}
    assert not known & NEVER[room], f'{path.name} imports {known & NEVER[room]}'


def test_only_tuned_sees_model_and_method_together():
  both = [
    path
    for path in PACKAGE.rglob('*.py')
    if {'ptjax.models', 'ptjax.methods'}
    <= {'.'.join(name.split('.')[:2]) for name in imports(path)}
  ]
  assert {path.parent.name for path in both} <= {'tuned'}


def test_nothing_downloaded_is_executed():
  """No pickle, no eval, no code of a model's repository."""
  for path in PACKAGE.rglob('*.py'):
    text = ast.parse(path.read_text())
    for node in ast.walk(text):
      if isinstance(node, ast.Call):
        name = ast.unparse(node.func)
        assert name not in ('eval', 'exec', 'pickle.load', 'pickle.loads'), path
        for keyword in node.keywords:
          if keyword.arg in ('trust_remote_code', 'allow_pickle'):
            assert ast.unparse(keyword.value) == 'False', path


def test_every_module_says_what_it_owns():
  for path in PACKAGE.rglob('*.py'):
    text = path.read_text()
    assert not text.strip() or ast.get_docstring(ast.parse(text)), path
