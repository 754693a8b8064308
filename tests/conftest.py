"""Programs under test begin as from a shell: SIGHUP is as by default, though whoever runs the tests ignores it."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from krm_sops import cli

if TYPE_CHECKING:
    from collections.abc import Iterator

signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _without_an_alarm() -> Iterator[None]:
    """A verb that ran in this process has limited its time."""
    yield
    signal.alarm(0)
    cli._seconds = 0
