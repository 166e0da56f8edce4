"""One driver at a time on an output directory, here and in a bucket."""

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from cocoer_client.batch import lease as leases
from cocoer_client.batch.lease import Lease, LeaseLost
from cocoer_client.errors import InvalidInput
from tests.waiting import until


class WithoutConditions(MemoryFileSystem):
    """A store that can't write on the condition that nothing is there."""

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        if mode == "create":
            raise OSError(22, "A header you provided implies functionality that is not implemented")
        return super().pipe_file(path, value, mode=mode, **kwargs)


@pytest.fixture(params=["local", "memory", "without conditions"])
def lease_of(request, tmp_path):
    fs = WithoutConditions() if "without" in request.param else fsspec.filesystem(request.param)
    root = str(tmp_path) if request.param == "local" else f"/leases-{tmp_path.name}"

    def make():
        return Lease(fs, f"{root}/_cocoer/lock.json", root)

    return make


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(leases, "BEAT", 0.02)
    monkeypatch.setattr(leases, "STALE", 0.2)
    monkeypatch.setattr(leases, "SETTLE", 0.01)


def dead_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def write_holder(lease, **changed):
    lease.fs.makedirs(os.path.dirname(lease.path), exist_ok=True)
    lease.fs.pipe_file(lease.path, json.dumps({**vars(lease.own), **changed}).encode())


def test_a_second_driver_is_refused(lease_of):
    first, second = lease_of(), lease_of()
    with first.held():
        told = rf"another cocoer-batch is at work on .*: process {os.getpid()} on .*, since 20.*\. Wait for it, or stop"
        with pytest.raises(InvalidInput, match=told), second.held():
            pass
        assert first.holder().token == first.own.token
    assert first.holder() is None
    with second.held():
        assert second.holder().token == second.own.token


@pytest.mark.parametrize("lease_of", ["local"], indirect=True)  # in memory, nothing is made by one alone
def test_of_many_at_once_one_has_it(lease_of, quick, monkeypatch):
    monkeypatch.setattr(leases, "STALE", 60.0)
    have, over = [], threading.Event()
    barrier = threading.Barrier(8)

    def drive():
        lease = lease_of()
        barrier.wait()
        try:
            with lease.held():
                have.append(lease)
                over.wait(30)
        except InvalidInput:
            refused.append(lease)

    refused = []
    threads = [threading.Thread(target=drive) for _ in range(8)]
    for thread in threads:
        thread.start()
    until(lambda: len(have) + len(refused) == 8)
    over.set()
    for thread in threads:
        thread.join()
    assert len(have) == 1


def test_a_killed_driver_is_taken_over_at_once(lease_of, quick, monkeypatch):
    monkeypatch.setattr(leases, "STALE", 60.0)
    lease = lease_of()
    write_holder(lease, token="x", pid=dead_process())
    with lease.held():
        assert lease.holder().token == lease.own.token


@pytest.mark.parametrize("same_place", [True, False])
def test_a_silent_driver_is_taken_over(lease_of, quick, same_place):
    """One of another machine, or one whose number another process has now."""
    lease = lease_of()
    place = {} if same_place else {"place": "elsewhere"}
    write_holder(lease, token="x", pid=os.getppid(), beat=time.time() - 1, **place)
    with lease.held():
        assert lease.holder().token == lease.own.token


def test_a_slow_clock_is_no_silence(lease_of, quick):
    """A driver whose clock is an hour behind is heard all the same."""
    first, second = lease_of(), lease_of()
    over = threading.Event()

    def beat():
        for count in range(10**6):
            write_holder(first, place="elsewhere", beat=time.time() - 3600 + count / 1000)
            if over.wait(0.005):
                return

    write_holder(first, place="elsewhere", beat=0.0)
    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(InvalidInput, match="is at work"), second.held():
            pass
    finally:
        over.set()
        thread.join()


def test_it_is_kept_fresh_and_its_loss_is_noticed(lease_of, quick):
    lease = lease_of()
    with lease.held():
        first = lease.holder()
        until(lambda: lease.holder() not in (None, first))
        lease.check()

        def taken_over():  # a beat that is just being written replaces it, which who takes over sees
            write_holder(lease, token="somebody else")
            return lease.lost

        until(taken_over)
        with pytest.raises(LeaseLost, match="another cocoer-batch has taken over"):
            lease.check()
    assert lease.holder().token == "somebody else", "what is another's is not removed"


def test_a_started_again_container_has_the_same_numbers(lease_of):
    """A file with this very process's number that it does not hold is of the one before."""
    lease = lease_of()
    assert replace(lease.own, token="x").is_gone()
    with lease.held():
        assert not lease.own.is_gone()


def test_half_a_file_is_nobodys(lease_of, quick):
    lease = lease_of()
    write_holder(lease)
    lease.fs.pipe_file(lease.path, b'{"name": "proc')
    with lease.held():
        assert lease.holder().token == lease.own.token
