"""`taxakey serve` as a process: says where once it listens, ends in order on Ctrl-C, refuses a run and a taken port."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from taxakey.errors import BadInput
from taxakey.serving.server import serve

COMMAND = "import typer; from taxakey.cli.serve import serve; typer.run(serve)"


def test_the_address_is_printed_when_it_answers_and_ctrl_c_ends_it(bundle: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(bundle)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    assert address.startswith("http://127.0.0.1:")
    assert httpx.get(f"{address}/health").json()["status"] == "ok"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 0
    assert errors == ""


def test_a_run_is_refused_with_the_command_that_exports_it(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").touch()
    with pytest.raises(BadInput, match=f"run: taxakey export {tmp_path} "):
        serve(tmp_path, on_ready=print)


def test_a_taken_port_is_named(bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BadInput, match=f"{port}.*another --port"):
            serve(bundle, port=port, on_ready=print)
