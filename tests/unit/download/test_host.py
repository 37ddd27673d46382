"""What a host's answers decide: how many requests it gets, how often, and when it is given up."""

import pytest
from hostile.site import options
from yarl import URL

from pttfaces.download.client import Answer
from pttfaces.download.result import Result
from pttfaces.download.scheduler import DEAD_AFTER, GIVE_UP_AFTER, Host, Request

GOOD = Answer(Result("ok", http_status=200))
BUSY = Answer(Result("failed", http_status=500), retry=True)
NONE = Answer(Result("failed", "no connection"), retry=True)
PRIVATE = Answer(Result("refused_address"))


def throttled(retry_after: float | None) -> Answer:
    return Answer(Result("blocked", http_status=429), retry=True, retry_after=retry_after)


def queue(count: int = 20, **changes: float) -> Host:
    made = Host(options(**changes))
    url = URL("http://i.test/")
    made.waiting.extend(Request(str(number), url, url) for number in range(count))
    return made


def start_all(host: Host, now: float) -> int:
    """Starts what may start at once; the number of requests under way."""
    while host.delay(now) == 0:
        host.start_next(now)
    return host.running


def test_host_delay_of_an_empty_queue_is_none() -> None:
    """It waits for a change."""
    assert queue(0).delay(0.0) is None


def test_host_gets_more_requests_with_every_success_and_half_after_a_failure() -> None:
    host = queue(count=200, per_host=12)
    assert start_all(host, 10.0) == 8
    for expected in (9, 10, 11, 12, 12):
        host.judge(GOOD, 10.0, 10.0)
        assert start_all(host, 10.0) == expected
    host.judge(BUSY, 10.0, 11.0)
    host.running = 0
    assert start_all(host, 11.0) == 6


@pytest.mark.parametrize(("most", "first"), [(1, 1), (6, 6), (12, 8), (32, 16)])
def test_host_gets_eight_requests_or_half_its_limit_before_it_answers(
    most: int, first: int
) -> None:
    assert start_all(queue(count=40, per_host=most), 10.0) == first


@pytest.mark.parametrize("answer", [GOOD, PRIVATE, Answer(Result("gone", http_status=404))])
def test_host_judge_of_an_answer_about_the_link_counts_no_failure(answer: Answer) -> None:
    host = queue(per_host=9)
    host.judge(answer, 1.0, 2.0)
    assert start_all(host, 2.0) == 9


def test_host_delay_keeps_the_rate_and_makes_up_for_late_requests() -> None:
    host = queue(rate_per_host=10)
    host.judge(GOOD, 0.0, 0.0)
    host.start_next(5.0)
    assert host.delay(5.0) == 0  # a tenth of a second may be made up for
    host.start_next(5.0)
    assert host.delay(5.0) == pytest.approx(0.1)
    assert host.delay(5.1) == pytest.approx(0)


def test_host_judge_of_failures_under_way_together_counts_one() -> None:
    host = queue()
    for _ in range(GIVE_UP_AFTER * 2):
        host.judge(BUSY, 1.0, 2.0)
        host.judge(BUSY, 1.5, 2.5)
    assert not host.given_up


def test_host_that_keeps_failing_is_given_up_unless_it_answers() -> None:
    host = queue()
    for at in range(GIVE_UP_AFTER - 1):
        host.judge(BUSY, float(at), float(at))
    host.judge(GOOD, 0.0, 0.0)
    host.judge(BUSY, 100.0, 100.0)
    assert not host.given_up
    for at in range(GIVE_UP_AFTER):
        host.judge(BUSY, 200.0 + at, 200.0 + at)
    assert host.given_up
    assert host.delay(1000.0) is None


def test_host_that_never_answered_is_given_up_sooner() -> None:
    dead, rude = queue(), queue()
    for at in range(DEAD_AFTER):
        assert not dead.given_up
        dead.judge(NONE, float(at), float(at))
        rude.judge(NONE if at else BUSY, float(at), float(at))
    assert dead.given_up
    assert not rude.given_up


def test_host_that_failed_as_often_as_a_link_is_tried_is_silent() -> None:
    """One that has answered is not."""
    dead, slow = queue(attempts=2), queue(attempts=2)
    slow.judge(BUSY, 0.0, 0.0)
    for at in (1.0, 2.0):
        assert not dead.silent
        dead.judge(NONE, at, at)
        slow.judge(NONE, at, at)
    assert dead.silent
    assert not slow.silent


def test_host_after_a_429_gets_half_the_rate_and_slowly_more_again() -> None:
    host = queue(rate_per_host=10)

    def pause() -> float:
        host.start_next(1000.0)
        host.running = 0
        return host.delay(1000.0) or 0.0

    pause()
    assert pause() == pytest.approx(0.1)
    host.judge(throttled(0.0), 990.0, 991.0)
    pauses = [pause() for _ in range(3)]
    assert pauses[2] - pauses[1] == pytest.approx(0.2)
    for _ in range(100):
        host.judge(GOOD, 0.0, 0.0)
    pauses = [pause() for _ in range(3)]
    assert pauses[2] - pauses[1] == pytest.approx(0.1)


def test_host_that_sends_retry_after_rests_that_long_up_to_a_limit() -> None:
    host = queue()
    host.judge(throttled(7.0), 0.0, 0.0)
    assert host.delay(0.0) == 7.0
    host.judge(throttled(1e9), 8.0, 8.0)
    assert host.delay(8.0) == 300.0


def test_host_that_throttles_without_retry_after_rests_longer_each_time() -> None:
    host = queue()
    host.judge(throttled(None), 0.0, 0.0)
    host.judge(throttled(None), 0.0, 0.0)
    assert host.delay(0.0) == 5.0
    host.judge(throttled(None), 6.0, 6.0)
    assert host.delay(6.0) == 10.0
