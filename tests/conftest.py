"""Programs under test begin as from a shell: SIGHUP is as by default, though whoever runs the tests ignores it."""

import signal

signal.signal(signal.SIGHUP, signal.SIG_DFL)
