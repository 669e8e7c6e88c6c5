"""How a command ends: its exit status, and a message for a person in place of a traceback."""

import errno
import os
import resource
import signal
import subprocess
import sys

import pytest

from stages.common import cli
from tests.conftest import ROOT, on_linux


def command(body: str) -> list[str]:
    """A process that runs `body` as a stage's main function."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return [sys.executable, "-c", f"from stages.common import cli\ndef main():\n{lines}cli.run(main)"]


def run(body: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(command(body), cwd=ROOT, capture_output=True, text=True, **options)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ("cli.log('done')", 0, "done\n"),
        ("cli.warn('odd')", 0, "warning: odd\n"),
        ("raise cli.UserError('params.yaml: seed: is x')", 1, "error: params.yaml: seed: is x\n"),
        ("open('none.txt')", 1, "error: none.txt: No such file or directory; run `dvc repro`, which makes"),
        ("open('/')", 1, "error: /: Is a directory; name a file"),
        ("open('README.md/a')", 1, "error: README.md/a: Not a directory; name a folder"),
        ("import os\nos.link('README.md', 'none/a')", 1, "error: README.md -> none/a: No such file or directory; run"),
        pytest.param(
            "import os\nos.write(os.open('/dev/full', os.O_WRONLY), b'x')",
            1,
            "error: No space left on device; free some",
            marks=on_linux,
        ),
        ("bytearray(1 << 60)", 1, "error: out of memory; close other programs or lower batch_size in params.yaml"),
    ],
)
def test_what_a_user_can_cause_is_one_message_without_a_traceback(body, status, message):
    done = run(body)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    [
        "import stages, tensorflow\ntensorflow.fill([1 << 22, 1 << 22], 1.0)",
        "import jax\njax.numpy.ones([1 << 44])",
        "import openvino\nopenvino.Tensor(openvino.Type.f32, openvino.Shape([1 << 44]))",
    ],
)
def test_too_little_memory_for_a_library_is_told(body):
    if "jax" in body:
        pytest.importorskip("jax", reason="needs JAX: make setup EXTRAS=jax")
    done = run(body)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: out of memory; close other programs or lower batch_size in")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_what_is_printed_is_utf_8_in_every_locale(stream):
    done = run(f"import sys\nprint('▁█', file=sys.{stream})", env=os.environ | {"PYTHONIOENCODING": "iso-8859-1"})
    assert (done.returncode, getattr(done, stream)) == (0, "▁█\n")


def test_a_fault_of_the_program_keeps_its_traceback():
    done = run("1 / 0")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ZeroDivisionError" in done.stderr


def test_ctrl_c_ends_quietly_with_the_status_that_shells_expect():
    body = "import time\nprint('ready', flush=True)\ntime.sleep(60)"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command(body), cwd=ROOT, **pipes) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == b""
    assert process.returncode == 130


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_error_and_no_file_gets_what_is_written_to_them(tmp_path, closed):
    """As a `cron` job or a service may have it."""
    body = f"import os\ncli.warn('odd')\nwith open({str(tmp_path / 'a')!r}, 'w') as file:\n    file.write('a')\n    os.write(2, b'b')"
    done = subprocess.run(["sh", "-c", f'exec "$@" {closed}', "sh", *command(body)], cwd=ROOT, check=False)
    assert (done.returncode, (tmp_path / "a").read_text()) == (0, "a")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_is_gone_ends_the_command_quietly(unbuffered):
    """As in `python -m stages.prepare ... |& head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    body = "for number in range(10_000):\n    cli.log('x' * 100)"
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(command(body), cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=writer)
    os.close(writer)
    assert (done.returncode, done.stdout) == (1, b"")


def test_a_limit_on_the_size_of_files_is_named(tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    path = tmp_path / "a"
    done = run(f"from stages.common import files\nfiles.write_json({str(path)!r}, 'x' * 9999)", preexec_fn=limit)
    assert done.returncode == 1
    assert done.stderr == f"error: {path}: File too large; raise the limit on the size of files (`ulimit -f`)\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "a/b"), "a/b: Permission denied; check the permissions of"),
        (OSError(errno.EROFS, "Read-only file system", "a"), "a: Read-only file system; the folder is on a read-only"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "a"), "a: Disk quota exceeded; free some of your disk quota"),
        (OSError(errno.EMFILE, "Too many open files", "a"), "a: Too many open files; raise the limit on open files"),
        (OSError(errno.EIO, "Input/output error", "a"), "a: Input/output error"),
        (OSError("only a text"), "only a text"),
        (OSError(), ""),
    ],
)
def test_an_error_of_the_system_is_explained(error, text):
    assert cli.explain_os_error(error).startswith(text)


def test_a_progress_bar_is_drawn_on_a_terminal_only():
    done = run("for number in cli.progress(iterable=range(3), desc='bar'):\n    cli.log(f'line {number}')")
    assert (done.returncode, done.stderr) == (0, "line 0\nline 1\nline 2\n")


@pytest.mark.parametrize("name", ["download", "prepare", "plots"])
def test_help_needs_no_params_and_tells_the_options(stage, tmp_path, name):
    done = stage(name, "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--params" in done.stdout


def test_a_wrong_option_is_told_with_the_usage(stage):
    done = stage("train", cwd=ROOT)
    assert done.returncode == 2
    assert "usage:" in done.stderr
    assert "the following arguments are required: version" in done.stderr
