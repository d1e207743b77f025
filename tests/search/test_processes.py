"""Whether a process runs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from twinlens.search.processes import is_running


def test_a_process_runs_until_it_ends() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert is_running(process.pid)
    assert not is_running(process.pid)


def test_a_process_of_another_user_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(pid: int, number: int) -> None:
        assert number == 0
        raise PermissionError

    monkeypatch.setattr(os, "kill", kill)
    assert is_running(1)


@pytest.mark.parametrize("number", [0, -1, 2**70])
def test_what_is_no_process_does_not_run(number: int) -> None:
    assert not is_running(number)
