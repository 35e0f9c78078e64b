"""What is known of arrivals outlives the manager, but not the version that it is of; the settings that ask for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from rie.environments.arrivals import Book, Caller
from rie.environments.arrivals_file import ArrivalsFile
from rie.environments.idle_times import Window
from rie.errors import SettingsError
from rie.model.function import FunctionKey
from rie.settings import read
from tests.unit.test_environments import until

HOUR = 3_600.0


def caller(name: str) -> Caller:
    return Caller(FunctionKey("123456789012", "us-east-1", name), "7", "tenant")


def hourly(book: Book, name: str) -> Window:
    arrivals = book.of(caller(name))
    for hour in range(6):
        arrivals.begin(hour * HOUR)
        arrivals.end(hour * HOUR + 1)
    return arrivals.window(1, 600.0)


async def read_back(path: Path) -> Book:
    book = Book()
    file = ArrivalsFile(path, book)
    await file.open(lambda key, version: key.name != "gone" and version == "7")
    await file.close()
    return book


def test_a_manager_that_starts_again_knows_what_it_knew_of_what_is_still_there(tmp_path: Path) -> None:
    async def test() -> None:
        book = Book()
        file = ArrivalsFile(tmp_path / "arrivals.json", book)
        await file.open(lambda key, version: True)
        window = hourly(book, "there")
        hourly(book, "gone")
        await file.close()
        again = await read_back(tmp_path / "arrivals.json")
        assert [each for each, _ in again.dump()] == [caller("there")]
        assert again.of(caller("there")).window(1, 600.0) == window != Window(600.0)

    asyncio.run(test())


def test_it_is_written_from_time_to_time(tmp_path: Path) -> None:
    async def test() -> None:
        book = Book()
        hourly(book, "there")
        file = ArrivalsFile(tmp_path / "arrivals.json", book, every_s=0.01)
        await file.open(lambda key, version: True)
        await until((tmp_path / "arrivals.json").exists)
        await file.close()

    asyncio.run(asyncio.wait_for(test(), 20))


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"3", b'["x"]', b'[["1","r","f","7","",3]]', b'[["1","r","f","7","",[{"bins":{"999":1}}]]]'],
)
def test_a_damaged_file_is_learned_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "arrivals.json").write_bytes(content)
    assert len(asyncio.run(read_back(tmp_path / "arrivals.json"))) == 0


def test_who_says_how_long_means_it() -> None:
    assert (read({}).keep_alive, read({}).idle_s) == ("learned", 600.0)
    assert read({"RIE_IDLE_S": "60"}).keep_alive == read({}, idle_s=60.0).keep_alive == "fixed"
    assert read({"RIE_IDLE_S": "60", "RIE_KEEP_ALIVE": "learned"}).keep_alive == "learned"
    with pytest.raises(SettingsError, match="cannot keep environments"):
        read({"RIE_KEEP_ALIVE": "60"})
