# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tests' own tools: a list of tests, conditions with a deadline, and what a failure says."""

import time

TESTS = []


class Failure(Exception):
    """A test did not see what it should have seen."""


def test(name):
    """Marks a function as a test. They run in the order in which they were written, on one container."""
    def add(function):
        TESTS.append((name, function))
        return function
    return add


def check(condition, text):
    if not condition:
        raise Failure(text)


def check_equal(what, got, wanted):
    if got != wanted:
        raise Failure(f"{what}: {got!r} instead of {wanted!r}")


def wait_for(what, condition, seconds=15):
    """Waits until condition() is true and returns its value."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise Failure(f"not within {seconds} seconds: {what}")
        time.sleep(0.05)
