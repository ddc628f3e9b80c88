import logging
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from bfjax.data.remarks import caught, tell


def test_each_thread_catches_what_it_says_itself():
    barrier = threading.Barrier(4, timeout=20)

    def say(number: int) -> list[str]:
        with caught() as said:
            barrier.wait()
            warnings.warn(f"warning {number}", stacklevel=1)
            logging.getLogger("tifffile").error("line %d", number)
            barrier.wait()
        return said

    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(say, range(4)))
    assert said == [[f"warning {i}", f"line {i}"] for i in range(4)]


def test_what_others_say_goes_where_it_would_have_gone(caplog):
    def others() -> None:
        warnings.warn("someone else's", stacklevel=1)
        logging.getLogger("tifffile").error("someone else's line")

    def meanwhile() -> list[str]:
        with caught() as said:
            other = threading.Thread(target=others)
            other.start()
            other.join()
        return said

    with pytest.warns(UserWarning, match="someone else's") as kept:
        said = meanwhile()
    assert (said, len(kept)) == ([], 1)
    assert [record.getMessage() for record in caplog.records] == ["someone else's line"]


def test_everything_is_as_before():
    before = list(warnings.filters), warnings.showwarning, logging.getLogger("pydicom").level
    with pytest.raises(KeyError), caught():
        raise KeyError
    after = list(warnings.filters), warnings.showwarning, logging.getLogger("pydicom").level
    assert after == before
    with pytest.warns(UserWarning, match="outside"):
        warnings.warn("outside", stacklevel=1)


def test_a_file_is_told_of_once_and_another_of_that_name_again():
    with caught() as said:
        for data in (b"a", b"a", b"b"):
            tell("x.tif", data, ["remarks: once", "remarks: once"])
    assert said == ["x.tif: remarks: once"] * 2


def test_very_many_files_of_one_remark_are_not_all_named():
    with caught() as said:
        for i in range(1100):
            tell(f"{i}.png", b"", ["remarks: of very many"])
    assert len(said) == 1000
    assert said[-1] == "999.png: remarks: of very many; no more such files are named"


def test_what_is_collected_meanwhile_is_not_the_files():
    with caught() as said:
        warnings.warn("Implicitly cleaning up <TemporaryDirectory>", ResourceWarning, stacklevel=1)
        warnings.warn("a library's own code is old", DeprecationWarning, stacklevel=1)
    assert said == []
