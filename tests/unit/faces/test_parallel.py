from collections.abc import Iterator

import pytest

from pttfaces.errors import ParamsError
from pttfaces.faces.parallel import ENGINE, Threads, connect_engine, ordered_map


def test_ordered_map_keeps_the_order_and_takes_few_items_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    for done, (item, result) in enumerate(ordered_map(lambda n: n * 2, items(), workers=2)):
        assert (item, result) == (done, done * 2)
        assert len(taken) - done <= 2 * 4


def test_connect_engine_gives_threads_unless_the_environment_names_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(ENGINE, raising=False)
    with connect_engine() as engine:
        assert isinstance(engine, Threads)
    monkeypatch.setenv(ENGINE, "dask")
    with pytest.raises(ParamsError, match="'dask'; expected threads or ray"), connect_engine():
        pass
