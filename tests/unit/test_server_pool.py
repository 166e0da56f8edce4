"""Several servers as one: how much each is given, which is asked, and what is asked again; in a time of the test's."""

import heapq
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cocoer_client.batch import server
from cocoer_client.batch.server_pool import NoServer, ServerPool
from cocoer_client.errors import (
    InvalidRequest,
    ModelChanged,
    RequestTimeout,
    ServerBusy,
    ServerError,
    ServerLost,
    ServerUnavailable,
)
from cocoer_client.inputs import NOTHING
from tests.batch_fakes import MODEL, RESULT, FakeClock, Fleet, of_model

TIMEOUT = 60.0


def answering(image, _busy):
    time.sleep(0.002)
    return RESULT


def gone(_image, _busy):
    raise ServerUnavailable("no server at b")


def pool_of(fleet, *urls, maximum=16, **options):
    return ServerPool(urls, maximum, connect=fleet.connect, **options)


def ask_many(pool, count, threads=16):
    with ThreadPoolExecutor(threads) as workers:
        return list(workers.map(pool.infer_raw, [b"image"] * count))


class Simulation:
    """Requests to servers, without threads and without waiting.

    Args:
        **behaviour: URL -> function of the time and of the requests that it has, which gives the seconds it takes and
            the error, or None.
    """

    def __init__(self, **behaviour):
        self.clock, self.behaviour = FakeClock(), behaviour
        fleet = Fleet(**dict.fromkeys(behaviour, answering))
        self.pool = ServerPool(tuple(behaviour), 16, clock=self.clock, connect=fleet.connect)
        self.began = self.clock.time
        self.on_their_way = []
        self.asked = []
        """URL and time of each request."""

    def server(self, url):
        return next(server for server in self.pool.servers if server.url == url)

    def run(self, seconds, images=10**9):
        """Ask about so many images, each once, for so long; how many had which outcome."""
        end, outcomes, on_their_way = self.clock.time + seconds, {}, self.on_their_way
        while self.clock.time < end and (images or on_their_way):
            while images and (place := self.pool.try_take(self.clock.time)):
                images -= 1
                self.asked.append((place.server.url, self.clock.time - self.began))
                takes, error = self.behaviour[place.server.url](self.clock.time - self.began, place.server.in_flight)
                heapq.heappush(on_their_way, (self.clock.time + takes, id(place), place, error))
            rests = [one.resting_until for one in self.pool.servers if one.resting_until > self.clock.time]
            self.clock.time = min([*rests, *(entry[0] for entry in on_their_way), end])
            while on_their_way and on_their_way[0][0] <= self.clock.time:
                _, _, place, error = heapq.heappop(on_their_way)
                name = type(error).__name__ if error else "answers"
                outcomes[name] = outcomes.get(name, 0) + 1
                self.pool.give_back(place, error)
        return outcomes


def healthy(now, in_flight):
    return 0.5, None


def hanging(now, in_flight):
    return TIMEOUT, RequestTimeout("late")


def failing(now, in_flight):
    return 0.01, ServerError("failed")


def test_timeouts_bring_a_server_down_to_one_request():
    """They were taken for answers: of 40 that timed out, each let it have more."""
    run = Simulation(a=hanging)
    run.server("a").limit = 8.0
    assert run.run(3600, images=40) == {"RequestTimeout": 40}
    assert run.server("a").limit == 1
    late = [when for _, when in run.asked if when > 2 * TIMEOUT]
    assert all(later - before >= TIMEOUT for before, later in zip(late, late[1:])), "one at a time"


def test_a_failing_server_is_left_alone_ever_longer():
    run = Simulation(a=failing)
    run.run(120)
    asked = [when for _, when in run.asked]
    assert len(asked) < 25
    assert max(later - before for before, later in zip(asked, asked[1:])) >= server.MAX_REST


@pytest.mark.parametrize("bad", [hanging, failing])
def test_a_healthy_server_takes_over(bad):
    run = Simulation(a=bad, b=healthy)
    outcomes = run.run(600)
    assert outcomes["answers"] > 600 / 0.5 * 16 * 0.9, "as many as it gives at its limit of 16"
    assert sum(url == "a" for url, _ in run.asked) < 75


def test_too_much_at_once_is_found_out():
    """A server that is in time with four requests, and with none of more, gets about four."""

    def small(now, in_flight):
        return (0.1, None) if in_flight <= 4 else (1.0, RequestTimeout("late"))

    run = Simulation(a=small)
    outcomes = run.run(300)
    assert outcomes["answers"] > 3 * outcomes["RequestTimeout"]
    assert run.server("a").limit <= 5


@pytest.mark.parametrize(
    "away", [(0.001, ServerUnavailable("gone")), (0.01, ServerError("failed")), (TIMEOUT, RequestTimeout("late"))]
)
def test_a_recovered_server_is_found_again(away):
    """And has what it had before within a minute."""

    def back_later(now, in_flight):
        return away if now < 200 else (0.5, None)

    run = Simulation(a=back_later, b=healthy)
    run.run(200)
    assert not run.server("a").closed
    run.run(TIMEOUT + server.MAX_REST + 60)
    assert run.server("a").closed
    assert run.server("a").limit == 16


def test_what_was_sent_before_a_cut_cuts_no_more():
    fleet = Fleet(a=answering)
    pool = pool_of(fleet, "a", clock=FakeClock())
    pool.servers[0].limit = 8.0
    places = [pool.take() for _ in range(8)]
    for place in places:
        pool.give_back(place, ServerBusy("full"))
    assert pool.servers[0].limit == 4
    assert pool.statistics.refused == 8


def test_load_goes_to_all_servers():
    fleet = Fleet(a=answering, b=answering)
    assert ask_many(pool_of(fleet, "a", "b", maximum=8), 200) == [RESULT] * 200
    assert min(fleet.asked.values()) > 50
    assert max(fleet.maximum.values()) <= 8


def test_a_server_gets_what_it_takes(monkeypatch):
    """One that refuses more than 3 at once is asked little more, and everything is answered."""
    monkeypatch.setattr(server, "PAUSE", 0.005)

    def small(image, busy):
        if busy > 3:
            raise ServerBusy("full")
        return answering(image, busy)

    fleet = Fleet(a=small)
    pool = pool_of(fleet, "a")
    assert ask_many(pool, 400) == [RESULT] * 400
    assert 0 < pool.statistics.refused < 250  # without finding its limit: thousands
    assert fleet.asked["a"] == 400 + pool.statistics.refused
    assert pool.servers[0].limit < 8


def test_a_lost_server_is_left_alone():
    fleet = Fleet(a=answering, b=gone)
    pool = pool_of(fleet, "a", "b", maximum=4)
    assert ask_many(pool, 100) == [RESULT] * 100
    assert fleet.asked["b"] <= 4
    assert pool.statistics.unreachable == fleet.asked["b"]


class Elapsing:
    """A behaviour that takes time of a test's clock, then raises or gives what it is told, the last for ever."""

    def __init__(self, clock, seconds, *outcomes):
        self.clock, self.seconds, self.outcomes = clock, seconds, list(outcomes)

    def __call__(self, image, _busy):
        self.clock.time += self.seconds
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@pytest.mark.parametrize(
    ("seconds", "error"), [(0.001, ServerUnavailable("no server at b")), (TIMEOUT, RequestTimeout("no answer from b"))]
)
def test_patience_ends(seconds, error):
    """Also where every try times out: it is the time since any server answered."""
    clock = FakeClock()
    pool = pool_of(Fleet(b=Elapsing(clock, seconds, error)), "b", clock=clock, retries=100, patience=600)
    began = clock.time
    with pytest.raises((NoServer, type(error)), match=r"no server has answered for 600 s; the last said: no|no "):
        pool.infer_raw(b"image")
    assert 600 <= clock.time - began <= 600 + 2 * TIMEOUT + server.MAX_REST
    with pytest.raises(NoServer, match=rf"no server has answered for 600 s; the last said: {error}"):
        pool.infer_raw(b"another")


def test_a_restart_is_waited_for():
    """However many tries fall into it: none of them is held against the image."""
    clock = FakeClock()
    away = [ServerUnavailable("gone")] * 8
    pool = pool_of(Fleet(a=Elapsing(clock, 0.001, *away, RESULT)), "a", clock=clock, retries=2)
    assert pool.infer_raw(b"image") == RESULT
    assert pool.statistics.unreachable == 8
    assert pool.servers[0].closed


@pytest.mark.parametrize(
    "error", [ServerError("failed"), RequestTimeout("late"), ServerUnavailable("crashed"), ServerLost("Stub process")]
)
def test_an_image_that_servers_always_fail_at(error):
    """It is left over after its tries, at all servers, and does not hold up the others."""
    clock = FakeClock()

    def poisoned(image, _busy):
        if image == b"poison":
            raise error
        return RESULT

    fleet = Fleet(a=poisoned, b=poisoned)
    pool = pool_of(fleet, "a", "b", clock=clock, retries=2)
    began = clock.time
    with pytest.raises(type(error)):
        pool.infer_raw(b"poison")
    assert fleet.images.count(b"poison") == 3
    assert min(fleet.asked.values()) >= 1
    assert clock.time - began < 60
    assert pool.infer_raw(b"another") == RESULT


def test_an_image_that_is_refused_for_ever():
    """Where others are answered: its own patience ends."""
    clock = FakeClock()

    def picky(image, _busy):
        clock.time += 1
        if image == b"poison":
            pool.last_answer, pool.silent_since = clock.time, None  # others are answered meanwhile
            raise ServerBusy("Exceeds maximum queue size")
        return RESULT

    pool = pool_of(Fleet(a=picky), "a", clock=clock, patience=100)
    with pytest.raises(ServerBusy):
        pool.infer_raw(b"poison")
    assert pool.infer_raw(b"another") == RESULT


def test_what_a_server_fails_at_is_tried_elsewhere():
    fleet = Fleet(a=Elapsing(FakeClock(), 0, ServerError("failed")), b=answering)
    pool = pool_of(fleet, "a", "b")
    assert [pool.infer_raw(b"image") for _ in range(3)] == [RESULT] * 3
    assert fleet.asked["a"] <= 3


@pytest.mark.parametrize("error", [InvalidRequest("IMAGE is empty"), TypeError("no such option")])
def test_what_is_final_is_not_tried_again(error):
    fleet = Fleet(a=Elapsing(FakeClock(), 0, error))
    pool = pool_of(fleet, "a")
    with pytest.raises(type(error)):
        pool.infer_raw(b"")
    assert fleet.asked["a"] == 1
    assert pool.servers[0].in_flight == 0


def test_a_server_that_changes_is_noticed():
    fleet = Fleet(a=Elapsing(FakeClock(), 0, RESULT, of_model(version="2"), of_model(weights="x")))
    pool = pool_of(fleet, "a", model=MODEL)
    assert pool.infer_raw(b"image") == RESULT
    assert pool.infer_raw(b"image")["model"]["version"] == "2"
    with pytest.raises(ModelChanged, match="a: the server's model has changed: weights was w and is x"):
        pool.infer_raw(b"image")
    asked = fleet.asked["a"]
    with pytest.raises(ModelChanged):  # the other threads too, and nobody is asked any more
        pool.infer_raw(b"image")
    assert fleet.asked["a"] == asked


def test_a_server_that_comes_back_with_another_model_gets_no_image():
    clock = FakeClock()
    fleet = Fleet(a=Elapsing(clock, 0, ServerUnavailable("gone"), of_model(precision="fp16")))
    pool = pool_of(fleet, "a", model=MODEL, clock=clock)
    with pytest.raises(ModelChanged, match="precision was fp32 and is fp16"):
        pool.infer_raw(b"image", min_score=0.5)
    assert fleet.images == [b"image", NOTHING]
    assert fleet.options == [{"min_score": 0.5}] * 2
