"""The launchers: what they would run, and what they do to stand-ins.

No cloud, and no run but the last test's.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest
import tiny
from launchers import FLAGS, LAUNCH, ODD, ROOT, TPU, Place

SCRIPTS = sorted([*LAUNCH.glob('*.sh'), *LAUNCH.glob('*.sbatch')])
PAGES = sorted(LAUNCH.glob('*.md'))
GKE = {
  'NAME': 'my-run',
  'IMAGE': 'registry/ptjax:1',
  'CLAIM': 'shared',
  'ACCELERATOR': 'tpu-v5-lite-podslice',
  'TOPOLOGY': '4x4',
  'HOSTS': '4',
  'CHIPS': '4',
}


@pytest.fixture
def place(tmp_path):
  return Place(tmp_path)


@pytest.mark.parametrize('script', SCRIPTS, ids=lambda p: p.name)
def test_a_script_parses(script):
  done = subprocess.run(['bash', '-n', script], capture_output=True, text=True)
  assert not done.returncode, done.stderr
  assert script.name == 'steps.sh' or os.access(script, os.X_OK)


@pytest.mark.parametrize('page', PAGES, ids=lambda p: p.name)
def test_what_a_page_says_to_type_parses(page):
  blocks = re.findall(r'```sh\n(.*?)```', page.read_text(), re.DOTALL)
  assert blocks
  for block in blocks:
    done = subprocess.run(
      ['bash', '-n'], input=block, capture_output=True, text=True
    )
    assert not done.returncode, done.stderr


def test_shellcheck_finds_nothing():
  beside = os.path.dirname(sys.executable)  # where pip puts it
  places = os.pathsep.join([beside, os.environ['PATH']])
  program = shutil.which('shellcheck', path=places)
  if not program:
    pytest.skip('shellcheck is not installed')
  done = subprocess.run(
    [program, '--external-sources', *SCRIPTS],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert not done.returncode, done.stdout


@pytest.mark.parametrize(
  'script,words,env,sentence',
  [
    ('tpu_queued.sh', ['run', *FLAGS], {**TPU, 'NAME': ''}, 'NAME is not set'),
    ('tpu_queued.sh', ['run', *FLAGS], {**TPU, 'ZONE': ''}, 'ZONE is not set'),
    ('tpu_queued.sh', ['run', *FLAGS], {**TPU, 'TYPE': ''}, 'TYPE is not set'),
    ('tpu_queued.sh', ['run', *FLAGS], {**TPU, 'TYPE': 'v9-8'}, 'TYPE=v9-8'),
    ('tpu_queued.sh', ['run'], TPU, '--workdir=… must be an absolute folder'),
    ('tpu_queued.sh', ['run', '--workdir=runs/a'], TPU, '--workdir=runs/a'),
    ('tpu_queued.sh', ['go'], TPU, 'go is no verb; it can be run, logs or'),
    ('gke.sh', ['run', 'tpu', *FLAGS], {**GKE, 'NAME': ''}, 'NAME is not set'),
    ('gke.sh', ['run', 'tpu', *FLAGS], {**GKE, 'NAME': 'A_1'}, 'NAME=A_1 must'),
    ('gke.sh', ['run', 'tpu', *FLAGS], {**GKE, 'TOPOLOGY': ''}, 'TOPOLOGY is'),
    ('gke.sh', ['run', 'gpu', *FLAGS], {**GKE, 'ACCELERATOR': ''}, 'ACCELERA'),
    ('gke.sh', ['run', 'gpu', *FLAGS], {**GKE, 'HOSTS': 'two'}, 'HOSTS=two'),
    ('gke.sh', ['run', 'gpu', *FLAGS], {**GKE, 'IMAGE': 'a b'}, 'IMAGE=a b'),
    ('gke.sh', ['run', 'cpu', *FLAGS], GKE, 'run cpu must be run tpu or'),
    ('gke.sh', ['run', 'gpu'], GKE, '--workdir=… must be an absolute folder'),
    (
      'gke.sh',
      ['run', 'gpu', '--workdir=gs://a'],
      GKE,
      '--workdir=gs://a must',
    ),
    (
      'gke.sh',
      ['run', 'tpu', *FLAGS],
      {**GKE, 'CLAIM': ''},
      'CLAIM is not set',
    ),
    ('slurm.sbatch', FLAGS, {}, 'there is no SLURM_JOB_ID'),
    (
      'slurm.sbatch',
      FLAGS,
      {'SLURM_JOB_ID': '1', 'SLURM_NNODES': '1', 'SLURM_JOB_NODELIST': 'a'},
      'the job has no GPU',
    ),
    ('local.sh', ['two', '--', *FLAGS], {}, 'say how many processes'),
    ('local.sh', ['2', *FLAGS], {}, 'say how many processes'),
  ],
)
def test_a_mistake_is_one_sentence_before_anything_is_made(
  place, script, words, env, sentence
):
  code, out, said = place.do(script, *words, **env)
  assert (code, out, said.count('\n')) == (2, '', 1)
  assert said.startswith(f'launch/{script}: ') and sentence in said
  assert not place.read('calls')


def test_a_program_that_is_missing_is_named(place):
  (place.room / 'bin/gcloud').unlink()
  (place.room / 'bin/bash').symlink_to(shutil.which('bash'))
  (place.room / 'bin/dirname').symlink_to(shutil.which('dirname'))
  path = str(place.room / 'bin')
  done = subprocess.run(
    [shutil.which('bash'), LAUNCH / 'tpu_queued.sh', 'run', *FLAGS],
    env={**TPU, 'PATH': path},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 2 and 'gcloud is not installed' in done.stderr


@pytest.mark.parametrize('kind', ['tpu', 'gpu'])
def test_a_jobset_says_who_the_pods_are(place, kind):
  yaml = pytest.importorskip('yaml', reason='PyYAML is not installed')
  template = yaml.safe_load((LAUNCH / f'gke/jobset-{kind}.yaml').read_text())
  assert template['kind'] == 'JobSet'
  code, _, said = place.do('gke.sh', 'run', kind, *FLAGS, ODD, **GKE)
  assert code == 0, said
  made = yaml.safe_load(place.read('applied'))
  assert made['metadata']['name'] == 'my-run'
  assert made['spec']['failurePolicy']['maxRestarts'] == 10
  (group,) = made['spec']['replicatedJobs']
  job = group['template']['spec']
  assert (job['parallelism'], job['completions']) == (4, 4)
  (container,) = job['template']['spec']['containers']
  assert container['image'] == 'registry/ptjax:1'
  # Kubernetes makes $( of $$(.
  words = [word.replace('$$(', '$(') for word in container.pop('args')]
  assert '$' not in yaml.dump(made)
  assert container['command'] == ['python', '-m', 'ptjax.main']
  assert words == [*FLAGS, ODD]
  env = {item['name']: item.get('value') for item in container['env']}
  nodes = job['template']['spec']['nodeSelector']
  limits = container['resources']['limits']
  if kind == 'tpu':
    assert env == {'JAX_COORDINATOR_ADDRESS': 'auto'}
    assert nodes['cloud.google.com/gke-tpu-topology'] == '4x4'
    assert limits == {'google.com/tpu': 4}
  else:
    assert env == {
      'JAX_COORDINATOR_ADDRESS': 'my-run-worker-0-0.my-run:8476',
      'JAX_NUM_PROCESSES': '4',
      'JAX_PROCESS_ID': None,
      'JAX_LOCAL_DEVICE_IDS': '0,1,2,3',
    }
    assert limits == {'nvidia.com/gpu': 4}


@pytest.mark.parametrize('kind', ['tpu', 'gpu'])
def test_a_jobset_whose_folder_is_in_a_bucket_needs_no_claim(place, kind):
  yaml = pytest.importorskip('yaml', reason='PyYAML is not installed')
  flags = [*FLAGS, '--workdir=gs://mine/runs/a']
  code, _, said = place.do('gke.sh', 'run', kind, *flags, **GKE | {'CLAIM': ''})
  assert code == 0, said
  made = yaml.safe_load(place.read('applied'))
  (group,) = made['spec']['replicatedJobs']
  shared, *_ = group['template']['spec']['template']['spec']['volumes']
  assert shared == {'name': 'shared', 'emptyDir': {}}


def test_a_dry_run_of_a_jobset_says_each_command_and_does_none(place):
  code, out, said = place.do(
    'gke.sh', '--dry-run', 'run', 'gpu', *FLAGS, **GKE, NAMESPACE='team'
  )
  assert (code, said) == (0, '') and not place.calls('kubectl')
  kubectl = ['kubectl', '--namespace=team']
  found = [l for l in map(str.split, out.splitlines()) if l[:1] == ['kubectl']]
  assert found[:2] == [
    [
      *kubectl,
      'get',
      'jobset',
      'my-run',
      '--ignore-not-found',
      '--output=name',
    ],
    [*kubectl, 'apply', '--filename=-'],
  ]
  assert found[2][2:4] == ['logs', '--follow']
  assert found[-1] == [
    *kubectl,
    *['delete', 'jobset', 'my-run', '--ignore-not-found'],
  ]
  assert 'kind: JobSet' in out


@pytest.mark.parametrize(
  'env,states,sentence',
  [
    ({'FAIL': ' apply '}, '', ''),
    ({}, 'going\nFailed\n', 'the JobSet my-run has failed'),
    ({'FAIL': 'terminalState'}, '', 'the cluster did not answer'),
  ],
)
def test_a_jobset_is_deleted_after_a_failure(place, env, states, sentence):
  (place.room / 'states').write_text(states)
  code, _, said = place.do('gke.sh', 'run', 'tpu', *FLAGS, **GKE, **env)
  assert code == 1 and sentence in said
  assert place.calls('kubectl')[-1][:3] == ['delete', 'jobset', 'my-run']


def test_a_jobset_that_is_stopped_is_deleted(place):
  started = place.start('gke.sh', 'run', 'tpu', *FLAGS, **GKE, SLOW='1')
  place.until('applied', 1)
  place.until_called('kubectl', 'logs')
  started.send_signal(signal.SIGINT)
  _, said = started.communicate(timeout=60)
  assert started.returncode == 130, said
  assert place.calls('kubectl')[-1][:3] == ['delete', 'jobset', 'my-run']


def test_a_jobset_that_cannot_be_deleted_is_told_with_the_command(place):
  code, _, said = place.do(
    'gke.sh', 'run', 'tpu', *FLAGS, **GKE, FAIL='delete '
  )
  assert code == 1
  assert said.splitlines()[-1].endswith(
    'delete it by: kubectl delete jobset my-run --ignore-not-found'
  )


def test_a_jobset_of_that_name_is_neither_made_nor_deleted(place):
  (place.room / 'names').write_text('jobset.jobset.x-k8s.io/my-run\n')
  code, _, said = place.do('gke.sh', 'run', 'tpu', *FLAGS, **GKE)
  assert code == 2 and 'is there already' in said
  assert [call[0] for call in place.calls('kubectl')] == ['get']


SLURM = {
  'SLURM_JOB_ID': '40007',
  'SLURM_NNODES': '2',
  'SLURM_GPUS_ON_NODE': '4',
  'SLURM_JOB_NODELIST': 'node[7,9]',
}


def test_each_task_of_slurm_knows_who_it_is(place):
  code, _, said = place.do('slurm.sbatch', *FLAGS, ODD, **SLURM)
  assert code == 0, said
  main = ['-m', 'ptjax.main', *FLAGS, ODD]
  assert place.runs() == [
    [str(ROOT), 'node7:20007', '2', i, '0,1,2,3', *main] for i in '01'
  ]
  assert len(place.calls('scontrol')) == 1


def test_a_job_that_slurm_stops_saves_and_is_requeued(place):
  started = place.start('slurm.sbatch', *FLAGS, **SLURM, SLOW='1')
  place.until('ran.*', 2)
  started.send_signal(signal.SIGTERM)
  _, said = started.communicate(timeout=60)
  assert started.returncode == 1, said
  assert place.read('saved') == 'saved\n' * 2
  assert place.calls('scontrol')[-1] == ['requeue', '40007']


def test_a_job_that_fails_is_not_requeued(place):
  code, _, _ = place.do('slurm.sbatch', *FLAGS, **SLURM, CODE='1')
  assert code == 1 and len(place.calls('scontrol')) == 1


def test_local_processes_know_who_they_are(place):
  code, out, said = place.do('local.sh', '3', '--', *FLAGS, ODD)
  assert (code, said) == (0, '') and out.count('step 1') == 3
  main = ['-m', 'ptjax.main', *FLAGS, ODD]
  assert place.runs() == [
    [str(ROOT), '127.0.0.1:9', '3', i, '', *main] for i in '012'
  ]
  code, out, _ = place.do('local.sh', '--dry-run', '3', '--', *FLAGS, ODD)
  lines = [shlex.split(line) for line in out.splitlines()]
  assert [words[-len(main) :] for words in lines] == [main] * 3
  assert [words[3] for words in lines] == [f'JAX_PROCESS_ID={i}' for i in '012']


def test_local_processes_that_outlive_a_failed_one_are_killed(place):
  env = {'CODE_OF': '1', 'PATIENCE': '1'}
  # The others wait for ever.
  script = (place.room / 'bin/python').read_text()
  loop = 'while [[ $JAX_PROCESS_ID != 1 ]]; do sleep 0.05; done'
  script = script.replace('while [[ -n ${SLOW:-} ]]; do sleep 0.05; done', loop)
  script = script.replace("exit 1' TERM", ":' TERM")  # like jax
  (place.room / 'bin/python').write_text(script)
  code, _, said = place.do('local.sh', '3', '--', *FLAGS, **env)
  assert code == 3 and '2 did not end in 1 s: killed' in said


def test_local_processes_all_hear_that_they_are_to_stop(place):
  started = place.start('local.sh', '2', '--', *FLAGS, SLOW='1')
  place.until('ran.*', 2)
  started.send_signal(signal.SIGTERM)
  started.communicate(timeout=60)
  assert started.returncode == 1 and place.read('saved') == 'saved\n' * 2


def test_an_ensemble_is_one_evaluation(place):
  code, _, said = place.do('ensemble.sh', 'cb', 'a', 'b', '--', ODD, MODEL='m')
  assert code == 0, said
  ((*_, first, mode, config, prompt, odd),) = place.runs()
  assert (first, mode) == ('ptjax.main', '--mode=evaluate')
  assert config == '--config=configs/superglue.py:task=cb,model=m'
  assert (prompt, odd) == ('--prompt=a,b', ODD)
  words = ('ensemble.sh', '--dry-run', 'cb', 'a', '--', '--x=1')
  code, out, _ = place.do(*words)
  assert code == 0 and len(place.runs()) == 1  # that of before
  assert out.split()[-2:] == ['--prompt=a', '--x=1']
  code, _, said = place.do('ensemble.sh', 'cb')
  assert code == 2 and said.startswith(
    'launch/ensemble.sh: no prompt is named: '
  )


def test_an_image_differs_in_jax_alone():
  lines = (LAUNCH / 'Dockerfile').read_text().splitlines()
  said = [line for line in lines if line and not line.startswith('#')]
  assert said[:3] == ['ARG BASE=python:3.12-slim-bookworm', 'FROM ${BASE}'] + [
    'ARG JAX=jax'
  ]
  for line in said:
    if line.startswith('COPY'):
      *sources, _ = line.split()[1:]
      ignored = (LAUNCH / 'Dockerfile.dockerignore').read_text().split()
      for source in sources:
        assert (ROOT / source).exists() and f'!{source}' in ignored


@pytest.mark.full
def test_two_local_processes_are_one_run_that_stops_and_goes_on(tmp_path):
  tiny.model_folder(tmp_path / 'model', tiny.changed(num_heads=4))
  tiny.data_folder(tmp_path / 'data')
  words = tiny.words(tmp_path, **tiny.INTERRUPTED)
  command = [
    *(LAUNCH / 'local.sh', '2', '--'),
    f'--config=configs/superglue.py:{words}',
    f'--workdir={tmp_path / "one run"}',
  ]
  own = {'env': {**os.environ, 'PYTHON': sys.executable}, 'cwd': ROOT}
  said = tmp_path / 'said'
  with said.open('w') as file:
    started = subprocess.Popen(command, stderr=file, **own)
    try:
      while not re.search('^cb [3-9]/', said.read_text(), re.MULTILINE):
        assert started.poll() is None, said.read_text()
        time.sleep(0.05)
      started.send_signal(signal.SIGTERM)
      assert started.wait(timeout=120) == 1
    finally:
      started.terminate()
  assert said.read_text().count('stopped by SIGTERM at step') == 1
  done = subprocess.run(command, capture_output=True, text=True, **own)
  assert not done.returncode, done.stderr
  assert done.stdout.count('resumed at step') == 1
  assert (tmp_path / 'one run/results.json').exists()
