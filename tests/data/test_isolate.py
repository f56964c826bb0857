"""A process that dies costs its item and nothing else."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from pst_jax.data.isolate import Crash, map_isolated

ROOT = pathlib.Path(__file__).parents[2]


def work(item):
    what, argument = item
    if what == "return":
        return argument
    if what == "die":
        os.kill(os.getpid(), argument)
    if what == "exit":
        os._exit(argument)
    if what == "sleep":
        time.sleep(argument)
        return argument
    if what == "bytes":
        return b"x" * argument
    if what == "pid":
        pathlib.Path(argument, str(os.getpid())).touch()
        return os.getpid()
    if what == "modules":
        return argument in sys.modules
    raise argument


class Unpicklable(Exception):
    def __init__(self, first, second):
        super().__init__("two arguments")


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def returns(count):
    return [("return", number) for number in range(count)]


def test_results_come_in_order_whatever_takes_long():
    items = [("sleep", 0.3), *returns(20), ("sleep", 0.1), ("return", "last")]
    assert list(map_isolated(work, items, 2)) == [0.3, *range(20), 0.1, "last"]


def test_a_segmentation_fault_costs_one_item():
    items = [*returns(3), ("die", signal.SIGSEGV), *returns(3), ("die", signal.SIGKILL)]
    results = list(map_isolated(work, items, 2))
    assert results[:3] == results[4:7] == [0, 1, 2]
    assert "SIGSEGV" in results[3].reason and "lack of memory" in results[7].reason


def test_an_exit_is_a_crash_even_without_an_error():
    results = list(map_isolated(work, [("exit", 0), ("return", 1), ("exit", 3)], 1))
    assert results == [
        Crash("its process ended with exit code 0"),
        1,
        Crash("its process ended with exit code 3"),
    ]


def test_what_takes_too_long_is_ended():
    start_s = time.monotonic()
    items = [("sleep", 100), ("return", 1), ("sleep", 100), ("sleep", 0.1)]
    assert list(map_isolated(work, items, 2, timeout_s=1)) == [
        Crash("took longer than 1 s"),
        1,
        Crash("took longer than 1 s"),
        0.1,
    ]
    assert time.monotonic() - start_s < 20


def test_large_results_and_items_pass():
    large = b"y" * 20_000_000
    results = list(map_isolated(work, [("bytes", 30_000_000), ("return", large)], 2))
    assert len(results[0]) == 30_000_000 and results[1] == large


def test_what_the_function_raises_is_raised_at_its_turn():
    results = map_isolated(work, [*returns(2), ("raise", KeyError("nine")), *returns(9)], 2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(KeyError, match="nine"):
        next(results)
    assert list(results) == []


def test_an_error_that_cannot_be_pickled_is_told_in_words():
    with pytest.raises(RuntimeError, match="Unpicklable: two arguments"):
        list(map_isolated(raise_unpicklable, [1], 1))
    with pytest.raises(Exception, match="pickle"):
        list(map_isolated(return_a_function, [1], 1))


def raise_unpicklable(item):
    raise Unpicklable(item, item)


def return_a_function(item):
    return lambda: item


@pytest.mark.parametrize("is_closed", [True, False])
def test_leaving_early_ends_the_processes(is_closed, tmp_path):
    items = [("pid", tmp_path), ("pid", tmp_path), *[("sleep", 100)] * 4]
    results = map_isolated(work, items, 2)
    next(results)
    if is_closed:
        results.close()
    else:
        del results
    pids = [int(file.name) for file in tmp_path.iterdir()]
    assert pids and not any(map(is_running, pids))


def test_few_items_are_taken_ahead():
    taken = []

    def items():
        for item in returns(100):
            taken.append(item)
            yield item

    results = map_isolated(work, items(), 2)
    assert not taken
    next(results)
    assert len(taken) <= 10
    assert list(results) == list(range(1, 100))


def test_nothing_to_do_starts_no_process():
    assert list(map_isolated(work, [], 2)) == []


def test_no_process_at_all_is_refused():
    with pytest.raises(ValueError, match="num_workers=0 must be at least 1"):
        map_isolated(work, [], 0)


def test_what_the_caller_imports_is_not_in_the_processes():
    assert "jax" in sys.modules  # by conftest
    assert list(map_isolated(work, [("modules", "jax"), ("modules", "flax")], 1)) == [False, False]


SCRIPT = """
import collections, sys
from pst_jax.data.isolate import map_isolated
print("once")
def own(item):
    return item
print(list(map_isolated(repr, [1, 2], 2)))
try:
    list(map_isolated(own, [1], 1))
except ValueError as error:
    print(error)
"""


def test_a_script_without_a_guard_runs_once(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    result = subprocess.run(
        [sys.executable, tmp_path / "script.py"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert result.stdout.splitlines() == [
        "once",
        "['1', '2']",
        "own is defined in a script: move it to a module to import",
    ], result.stderr


MODULE = """
from pst_jax.data.isolate import map_isolated
def own(item):
    return item + 1
if __name__ == "__main__":
    print(list(map_isolated(own, [1, 2], 2)))
"""


def test_a_module_that_runs_as_a_command_may_define_the_function(tmp_path):
    (tmp_path / "command.py").write_text(MODULE)
    result = subprocess.run(
        [sys.executable, "-m", "command"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert result.stdout.strip() == "[2, 3]", result.stderr


def test_processes_end_with_a_caller_that_is_killed(tmp_path):
    program = (
        "import sys; sys.path[:0] = ['tests/data']; import test_isolate as t\n"
        f"items = [('pid', {str(tmp_path)!r})] * 2 + [('sleep', 1)] * 99\n"
        "for result in t.map_isolated(t.work, items, 2): print(result, flush=True)"
    )
    caller = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    caller.stdout.readline()
    caller.kill()
    caller.wait()
    caller.stdout.close()
    pids = [int(file.name) for file in tmp_path.iterdir()]
    deadline_s = time.monotonic() + 20
    while any(map(is_running, pids)) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert pids and not any(map(is_running, pids))
