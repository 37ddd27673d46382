"""A host's queue: how many requests, how often, and when it gives up on the host."""

import pytest
from hostile.site import options
from yarl import URL

from pttfaces.download.host_queue import DEAD_AFTER, GIVE_UP_AFTER, HostQueue, Request


def request(number: int, ready_at: float = 0.0) -> Request:
    url = URL(f"http://i.test/{number}")
    return Request(ready_at, number, str(url), url, url)


def queue(count: int = 20, **changes: float) -> HostQueue:
    made = HostQueue(options(**changes))
    for number in range(count):
        made.put(request(number))
    return made


def test_an_empty_queue_waits_for_a_change() -> None:
    assert queue(0).delay(0.0) is None


def test_a_queue_opens_with_success_and_closes_with_failure() -> None:
    host = queue(count=200, per_host=70)

    def under_way() -> int:
        while host.delay(10.0) == 0:
            host.start_next(10.0)
        return host.running

    assert under_way() == 35
    host.succeeded()
    assert under_way() == 51
    for _ in range(2):
        host.succeeded()
    assert under_way() == 70
    host.failed(10.0, 11.0, answered=True)
    host.running = 0
    assert under_way() == 35
    host.succeeded()
    assert under_way() == 36  # a host that has failed gets more only one by one


@pytest.mark.parametrize(("most", "first"), [(1, 1), (6, 6), (12, 8), (16, 8), (32, 16)])
def test_a_queue_starts_with_eight_or_half_of_its_limit(most: int, first: int) -> None:
    host = queue(count=40, per_host=most)
    while host.delay(10.0) == 0:
        host.start_next(10.0)
    assert host.running == first


def test_requests_keep_their_distance_and_late_ones_are_made_up_for() -> None:
    host = queue(rate_per_host=10)
    host.succeeded()
    host.start_next(5.0)
    assert host.delay(5.0) == 0  # a tenth of a second may be made up for
    host.start_next(5.0)
    assert host.delay(5.0) == pytest.approx(0.1)
    assert host.delay(5.1) == pytest.approx(0)


def test_what_is_due_again_goes_first_and_not_before_its_time() -> None:
    host = queue(1)
    host.put_later(request(99, ready_at=3.0))
    assert host.start_next(1.0).number == 0
    assert host.delay(1.0) == 2.0
    assert host.start_next(3.0).number == 99


def test_the_failures_of_requests_under_way_together_count_once() -> None:
    host = queue()
    for _ in range(GIVE_UP_AFTER * 2):
        host.failed(started=1.0, now=2.0, answered=True)
        host.failed(started=1.5, now=2.5, answered=True)
    assert not host.given_up


def test_a_host_that_keeps_failing_is_given_up_and_an_answer_forgives() -> None:
    host = queue()
    for at in range(GIVE_UP_AFTER - 1):
        host.failed(float(at), float(at), answered=True)
    host.succeeded()
    host.failed(100.0, 100.0, answered=True)
    assert not host.given_up
    for at in range(GIVE_UP_AFTER):
        host.failed(200.0 + at, 200.0 + at, answered=True)
    assert host.given_up
    assert len(list(host.drain())) == 20
    assert host.delay(1000.0) is None


def test_a_host_that_never_answered_is_given_up_sooner() -> None:
    dead, rude = queue(), queue()
    for at in range(DEAD_AFTER):
        assert not dead.given_up
        dead.failed(float(at), float(at), answered=False)
        rude.failed(float(at), float(at), answered=at == 0)
    assert dead.given_up
    assert not rude.given_up


def test_a_host_is_silent_when_it_failed_as_often_as_a_link_is_tried() -> None:
    dead, slow = queue(attempts=2), queue(attempts=2)
    slow.failed(0.0, 0.0, answered=True)
    for at in (1.0, 2.0):
        assert not dead.silent
        dead.failed(at, at, answered=False)
        slow.failed(at, at, answered=False)
    assert dead.silent
    assert not slow.silent


def test_after_a_429_requests_come_at_half_the_rate_and_slowly_faster_again() -> None:
    host = queue(rate_per_host=10)

    def pause() -> float:
        host.start_next(1000.0)
        host.running = 0
        return host.delay(1000.0) or 0.0

    pause()
    assert pause() == pytest.approx(0.1)
    host.throttled(990.0, 991.0, 0.0)
    pauses = [pause() for _ in range(3)]
    assert pauses[2] - pauses[1] == pytest.approx(0.2)
    for _ in range(100):
        host.succeeded()
    pauses = [pause() for _ in range(3)]
    assert pauses[2] - pauses[1] == pytest.approx(0.1)


def test_a_throttling_host_rests_as_long_as_it_asks_but_not_for_ever() -> None:
    host = queue()
    host.throttled(0.0, 0.0, 7.0)
    assert host.delay(0.0) == 7.0
    host.throttled(8.0, 8.0, 1e9)
    assert host.delay(8.0) == 300.0


def test_a_throttling_host_that_names_no_time_rests_longer_each_time() -> None:
    host = queue()
    host.throttled(0.0, 0.0, None)
    host.throttled(0.0, 0.0, None)
    assert host.delay(0.0) == 5.0
    host.throttled(6.0, 6.0, None)
    assert host.delay(6.0) == 10.0
